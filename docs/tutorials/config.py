
"""A small transformer on sentences, trained for too long."""

from jaxreg.study.design import base_config
from jaxreg.study.design.config import with_changes


def get_config():
    changes = {
        "data.num_train": 128,
        "data.num_eval": 64,
        "model.num_layers": 1,
        "train.num_steps": 200,
        "eval.every_steps": 50,
    }
    return with_changes(base_config.get_config(), changes)
