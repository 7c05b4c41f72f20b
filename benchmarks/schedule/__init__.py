"""The parts of ``make bench-schedule``: jobs, pollers, and the best possible schedule."""
