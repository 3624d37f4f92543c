"""What a step minimises.

losses.py      the losses: pure functions of rows
objective.py   the loss that a config asks for
teacher.py     the model that a run must not stray from
"""
