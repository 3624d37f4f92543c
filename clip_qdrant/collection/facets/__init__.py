"""Counts of the images that a filter selects: by the values of fields, and by ranges of numbers and dates."""
