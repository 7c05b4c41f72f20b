"""Many jobs while everything is killed."""
