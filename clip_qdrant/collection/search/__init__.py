"""The search call: its options, what it asks of the store, and how the answer becomes hits."""
