"""Other frameworks over `ImageCollection` and `ClipEmbedder`: a folder each, behind an extra of its name."""
