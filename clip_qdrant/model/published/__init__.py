"""Models that others have published, as checkpoints: from the hub or from a folder."""
