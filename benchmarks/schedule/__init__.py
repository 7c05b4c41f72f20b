"""The benchmark ``schedule``: a simulation of jobs and pollers."""
