"""The commands `train` and `evaluate`.

train.py  evaluate.py         one command each
check.py  learning_rates.py   what `train` does instead with --check and --find-lr
"""
