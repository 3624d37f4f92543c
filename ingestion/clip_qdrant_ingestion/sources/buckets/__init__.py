"""Buckets, and whatever else fsspec can reach."""
