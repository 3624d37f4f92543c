"""What training needs of a network, for each kind of network.

protocol.py    layers below, layers above, heads: of the image side and the text side
dual.py        our own dual encoders
published.py   published models, cut without knowing how they are written
trace.py       what a network calls while it encodes: its layers and its head, found
open.py        the one that fits a checkpoint
"""
