"""A training of seconds: a small recipe, and `train` without a progress bar."""

import dsla
from dsla.training.loop import train

TINY = dsla.recipe("scenes-dsla", channels=16, head_convs=1, batch_size=4, steps=6, warmup_steps=2)


def quiet(*args, **kwargs):
    return train(*args, progress=False, **kwargs)


def few_scenes():
    return dsla.Scenes("train", size=8).prepare(workers=1)
