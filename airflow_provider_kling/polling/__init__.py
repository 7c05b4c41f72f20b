"""When to ask again, and the poller that all waits of a triggerer share."""

#: The longest interval between two polls, in seconds, unless a task asks for another one. It stands here
#: because a Dag file loads no more of this folder.
MAX_POLL_INTERVAL = 12.0
