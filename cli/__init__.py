"""The `switchyard` command, one module per noun, and the embedded stack."""
