"""What goes into an encoder: images as pixels of one size, texts as token ids. Importing this imports no torch."""
