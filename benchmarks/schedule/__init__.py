"""What ``make bench-schedule`` is made of: jobs, those who wait for them, and the best that can be done."""
