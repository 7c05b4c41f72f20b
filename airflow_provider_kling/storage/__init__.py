"""Files on any storage: allowed paths, atomic writes, sidecars."""
