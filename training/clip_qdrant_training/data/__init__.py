"""Image-caption pairs: read, checked, mixed, drawn."""
