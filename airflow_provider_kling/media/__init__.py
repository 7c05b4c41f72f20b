"""What is in a picture or a video."""
