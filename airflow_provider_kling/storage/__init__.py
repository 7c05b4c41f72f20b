"""Files on any storage: which paths are allowed, reading, and the target of a video with its sidecar."""
