"""The submit that is paid once: its state, limits on cost, reuse, picture inputs."""
