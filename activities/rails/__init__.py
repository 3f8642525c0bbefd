"""Payment rails behind one protocol."""
