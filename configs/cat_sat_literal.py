"""CATSAT, the essay taken literally: one verb per noun; otherwise as cat_sat.py.

Command:  jaxreg train --config=configs/cat_sat_literal.py --workdir=runs/cat_sat_literal_one
Time:     7 s on two cores, compiled before
Result:   seed 0, no regularizer: train 100%, validation 98%, recombination 49%
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns the base config with one verb per noun."""
    config = base_config.get_config()
    config.data.verbs_per_noun = 1
    return config
