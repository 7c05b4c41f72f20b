"""HTTP: the connection's settings, TLS, the sync and the async client, downloads."""
