"""The network of a run: what of it learns, and how it is run.

kinds/            what training needs of a network, for each kind of network
weights.py        copied from the start, mixed with it, and made a checkpoint of
stages.py         the layers of timm's and transformers' encoders in our own networks
freezing.py       which of them learn
adapters.py       low-rank adapters in place of weights
towers.py         encoders cut where the frozen part ends
acceleration.py   the same results, sooner
"""
