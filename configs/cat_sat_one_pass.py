"""CATSAT, little repetition: 8,000 sentences, batch 32, 400 steps, 1.6 passes over the data.

Command:  jaxreg train --config=configs/cat_sat_one_pass.py --workdir=runs/cat_sat_one_pass
Time:     38 s on two cores, data and programs included
Result:   seed 0, no regularizer: train 100%, validation 100%, recombination 97%
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns the base config with many more sentences, each of them seen once or twice."""
    config = base_config.get_config()
    config.data.num_train = 8000
    config.train.batch_size = 32
    return config
