"""The training loop and all that happens in it."""
