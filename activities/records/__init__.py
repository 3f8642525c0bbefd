"""The store: PostgreSQL, its tenant transactions, and one repository per table owner."""
