"""Approvals without Temporal: working time, quorums, clocks and the request's state, as pure values."""
