"""What a step minimises: losses, and a teacher to follow."""
