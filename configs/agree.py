"""AGREE, over-fitted: 512 sentences in 8 frames of English, batch 16, 600 steps, 19 passes over the
data.

Command:  jaxreg train --config=configs/agree.py --workdir=runs/agree_one
Time:     4 s on two cores, compiled before
Result:   seed 0, no regularizer: train 100%, validation 79%, recombination 68%, unseen frames 72%
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns the base config with AGREE: half of the frames, 3 of 8 verb phrases per noun."""
    config = base_config.get_config("agree")
    config.train.num_steps = 600
    config.eval.every_steps = 60
    return config
