"""RECALL, 4,096 rows of 6 pairs, batch 16, 1,500 steps, 6 passes over the data.

Command:  jaxreg train --config=configs/recall.py --workdir=runs/recall_one
Time:     17 s on two cores, compiled before
Result:   seed 0, no regularizer: train 100%, validation 100%; query cut from its pair 10%, where
chance is 12.5%
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns the base config with RECALL, evaluated often: what is asked of it is when it is
    solved.
    """
    config = base_config.get_config("recall")
    config.train.num_steps = 1500
    config.eval.every_steps = 20
    config.eval.curves = ("validation", "edge_cut")
    return config
