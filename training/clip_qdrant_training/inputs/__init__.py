"""What a step trains on: augmented pixels and tokens, or features that are computed once."""
