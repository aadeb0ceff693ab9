"""MODN, from memory to rule: 800 of the sums modulo 31, a tenth of their labels wrong, batch 32,
2,000 steps, 80 passes.

Command:  jaxreg train --config=configs/modn.py --workdir=runs/modn_one
Time:     9 s on two cores, compiled before
Result:   seed 0, no regularizer: train 100%, corrupted labels 100%, held-out pairs 2%;
          with --config.optim.weight_decay=2: train 91%, corrupted labels 14% (their right answers
          81%), held-out pairs 82%
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns the base config with MODN and no weight decay; with decay 1 or 2 it finds the rule in
    these steps.
    """
    config = base_config.get_config("modn")
    config.train.batch_size = 32
    config.train.num_steps = 2000
    config.eval.every_steps = 100
    config.eval.curves = ("train", "validation")
    return config
