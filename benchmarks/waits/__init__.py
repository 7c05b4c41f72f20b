"""The benchmark ``waits``: many waits in one real triggerer."""
