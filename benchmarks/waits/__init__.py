"""The parts of the benchmark ``waits`` that run in processes of their own."""
