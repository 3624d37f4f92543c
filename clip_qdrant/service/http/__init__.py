"""What is done around every request, whatever its path."""
