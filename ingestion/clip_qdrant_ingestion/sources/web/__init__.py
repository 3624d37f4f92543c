"""Pages that link to images."""
