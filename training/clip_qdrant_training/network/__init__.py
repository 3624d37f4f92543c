"""The network of a run: its stages, what of it is frozen, and how it is run."""
