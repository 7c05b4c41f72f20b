"""When to ask again, and the poller that all waits of a triggerer share."""
