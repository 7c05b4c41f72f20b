"""Many jobs while everything fails."""
