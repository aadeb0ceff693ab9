"""CATSAT, the essay taken literally: one verb per noun; otherwise as cat_sat.py.

Command:  jaxreg compare experiments/cat_sat_literal.py --workdir=runs/cat_sat_literal
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Returns base.py with one verb per noun."""
    config = base.get_config()
    config.data.verbs_per_noun = 1
    return config
