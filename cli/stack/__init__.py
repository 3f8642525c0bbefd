"""The embedded stack: every server Switchyard needs, started, supervised and stopped on loopback."""
