"""Checkpoint files without torch: read, checked, and what they say of themselves."""
