"""`make pictures`: the screenshots of the documents."""
