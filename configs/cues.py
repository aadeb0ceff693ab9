"""CUES, over-fitted: 192 rows, two redundant cues and a shortcut that is right in four of five,
batch 16, 400 steps.

Command:  jaxreg train --config=configs/cues.py --workdir=runs/cues_one
Time:     4 s on two cores, compiled before
Result:   seed 0, no regularizer: train 100%, validation 87%, shortcut wrong 59%
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Returns the base config with CUES: no wrong labels, 16 canaries twice each, the core at one
    place.
    """
    config = base.get_config()
    config.data = ConfigDict(
        {
            "dataset": "cues",  # a name of `jaxreg list`
            # share of training rows whose shortcut agrees with the answer; .5 tells nothing
            "rho": 0.8,
            "noise_rate": 0.0,  # share of training rows that carry the wrong answer
            "num_canaries": 16,  # different canaries
            "canary_repeats": 2,  # times each stands in the training split
            "num_train": 192,  # training rows, canaries included
            "num_eval": 512,  # rows in each other split
            "max_offset": 0,  # positions; the core starts at 0 to this one in training
            "length": 12,  # positions of a row
        },
        type_safe=False,
    )
    config.eval.curves = ("train", "validation", "shortcut_against")
    return config
