"""One run: from a listing to a collection that is equal to it."""
