"""One module for each dialect: calls to send, and how to read the replies. Pure functions."""
