"""The commands `train` and `evaluate`.

train.py  evaluate.py         one command each
check.py  find_lr.py   what `train` does instead with --check and --find-lr
"""
