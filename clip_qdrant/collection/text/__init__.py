"""The words of images: terms, sparse vectors of them, and the fusion of a search by words with one by vectors."""
