"""The state file: what runs put away, and what they reported."""
