"""Models of open_clip as checkpoints: by architecture and tag, from a repository or folder, from a file of weights."""
