"""What decides: one deterministic module per business process."""
