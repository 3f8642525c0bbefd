"""What is remembered: tables, contracts, money, identifiers, statuses, events and errors."""
