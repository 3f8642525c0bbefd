"""Runs a stranger's code: hardened single-use containers, their image, their network broker, their reaper."""
