"""The network of a run: what of it learns, and how it is run.

weights.py        copied from the start, and made a checkpoint of
stages.py         the layers of encoders
freezing.py       which of them learn
towers.py         encoders cut where the frozen part ends
acceleration.py   the same results, sooner
"""
