"""TOKENS: the next token of your own files, at every position; without a path, of a small sample.

Command:  jaxreg train --config=configs/tokens.py --workdir=runs/tokens_one
Yours:    --config.data.path=my.txt; the formats are in docs/data.md
Or:       this one has the defaults of every size, to set your own; for a first model of a text take
          configs/language_model.py, whose sizes were chosen for it
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns the base config with a causal model on the sample of TOKENS."""
    config = base_config.get_config("tokens")
    config.model.causal = True
    config.eval.curves = ("train", "validation")
    return config
