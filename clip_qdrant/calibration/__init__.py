"""What a cosine similarity is worth: the share of random pairs that are less alike, by embedder."""
