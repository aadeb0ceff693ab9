"""CATSAT, under-fitted: batch 32, 60 steps, 7.5 passes over the data. A prototype saw attention
dropout hurt here.

Command:  jaxreg train --config=configs/cat_sat_underfitted.py --workdir=runs/cat_sat_underfitted
Time:     6 s on two cores, compiled before
Result:   seed 0, no regularizer: train 99%, validation 69%, recombination 54%
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns the base config with few, larger steps; evaluated every 10 of them."""
    config = base_config.get_config()
    config.train.batch_size = 32
    config.train.num_steps = 60
    config.eval.every_steps = 10
    return config
