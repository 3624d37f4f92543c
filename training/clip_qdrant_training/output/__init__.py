"""What a run shows and leaves.

log.py                   log.jsonl, and when curves.png is drawn
curves.py  grid.py       charts, and pictures with captions
report.py  queries.py    the page of figures, charts, best and worst queries
watchers/                what shows a run while it goes on
moving_average.py  files.py     a moving average; files that are replaced whole
"""
