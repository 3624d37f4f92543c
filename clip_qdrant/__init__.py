"""Image-text retrieval on Qdrant."""
