"""What a model can do, measured.

judge.py        everything that is measured of one model
recall.py       retrieval both ways, with intervals
zero_shot.py    classification by prompts
robustness.py   recall on changed images and captions
scores.py       how captions stand to images
matches.py      the images found for a text
figures.py      all of it as rows of text
"""
