"""The front door: the HTTP API, its authentication and one router per domain."""
