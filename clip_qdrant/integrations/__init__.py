"""Other frameworks over `ImageCollection` and `ClipEmbedder`: a folder each, behind an extra of its name.

find_images.py and payloads.py are what several of them have in common.
"""
