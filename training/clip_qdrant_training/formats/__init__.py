"""The formats that pairs are read from, a module for each kind; `clip_qdrant_training.data` finds which one it is."""
