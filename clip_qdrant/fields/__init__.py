"""Fields of metadata: their types, their values and their names."""
