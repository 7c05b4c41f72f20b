"""One mapped run over hundreds of pictures."""
