"""CUES, over-fitted: 192 rows, two redundant cues and a shortcut that is right in four of five,
batch 16, 400 steps.

Command:  jaxreg train --config=configs/cues.py --workdir=runs/cues_one
Time:     4 s on two cores, compiled before
Result:   seed 0, no regularizer: train 100%, validation 87%, shortcut wrong 59%
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns the base config with CUES: no wrong labels, 16 canaries twice each, the core at one
    place.
    """
    config = base_config.get_config("cues")
    config.eval.curves = ("train", "validation", "shortcut_against")
    return config
