"""What the caller of a request may do."""
