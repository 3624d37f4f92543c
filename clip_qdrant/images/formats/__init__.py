"""The decoders of Pillow, each made to tell of what it passes over: pixels that are missing, ranges, reduced copies."""
