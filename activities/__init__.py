"""What acts: everything that touches the outside world or the database."""
