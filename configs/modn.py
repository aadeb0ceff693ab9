"""MODN, from memory to rule: 800 of the sums modulo 31, a tenth of their labels wrong, batch 32,
2,000 steps, 80 passes.

Command:  jaxreg train --config=configs/modn.py --workdir=runs/modn_one
Time:     9 s on two cores, compiled before
Result:   seed 0, no regularizer: train 100%, corrupted labels 100%, held-out pairs 2%;
          with --config.optim.weight_decay=2: train 91%, corrupted labels 14% (their right answers
          81%), held-out pairs 82%
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Returns the base config with MODN and no weight decay; with decay 1 or 2 it finds the rule in
    these steps.
    """
    config = base.get_config()
    config.data = ConfigDict(
        {
            "dataset": "modn",  # a name of `jaxreg list`
            "modulus": 31,  # a and b are 0 to 30
            "operation": "add",  # add | subtract | multiply | polynomial (a a + a b + b b)
            "corrupted_rate": 0.1,  # share of training labels that are wrong
            "num_train": 800,  # training pairs, of 961
            "num_eval": 128,  # held-out pairs
            "length": 4,  # tokens of a row: a, sign, b, equals
        },
        type_safe=False,
    )
    config.train.batch_size = 32
    config.train.num_steps = 2000
    config.eval.every_steps = 100
    config.eval.curves = ("train", "validation")
    return config
