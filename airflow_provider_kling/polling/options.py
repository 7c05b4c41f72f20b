"""What an operator's arguments about polling are by default; a Dag file loads no more of this folder."""

#: The longest interval between two polls, in seconds.
MAX_POLL_INTERVAL = 12.0
