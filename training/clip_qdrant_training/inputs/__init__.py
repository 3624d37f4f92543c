"""What a step trains on: augmented pixels and tokens, or features that are computed once.

samples.py          pairs as batches, and as plain rows for judging
pixel_cache.py      decoded images that are kept
feature_cache.py    features of frozen layers that are kept
"""
