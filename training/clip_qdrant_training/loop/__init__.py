"""The training loop.

trainer.py      the epochs of a run: train, judge, keep the best, stop and go on
batches.py      the order of the pairs, prepared ahead
step.py         what learns, and one step of it
gradients.py    the gradients of a step, in chunks and over processes
optim.py        learning rates, schedules, averaged weights
validation.py   the judgement of an epoch, and the best so far
state.py        the files that a run goes on from
distributed.py  several processes as one
"""
