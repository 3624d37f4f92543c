"""The files of an embedded store: which collections there are, who has them open, and what is on disk."""
