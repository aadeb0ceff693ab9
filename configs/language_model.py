"""A small language model on your own text, many passes over little: 96 windows of 64 bytes, batch
16, 300 steps, 50 passes.

Command:  jaxreg train --config=configs/language_model.py --workdir=runs/language_model
Yours:    --config.data.path=my.txt
Or:       for a first model of a text take this one; configs/tokens.py has the same data with the
          defaults of every size, to set your own
Time:     under a minute on two cores, with compiling
Result:   seed 0, the sample of prose that comes with jaxreg (without data.path): validation loss
          2.33 nats at its lowest, 3.25 at the end; the unigram model 2.90

Bytes are tokens; a file of the library tokenizers is --config.data.tokenizer=FILE. Of a larger text
take more windows (--config.data.num_train=4096), a wider model and more steps.
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns a causal transformer of two layers, width 64, on windows of TOKENS."""
    config = base_config.get_config("tokens")
    config.data.num_train = 96
    config.data.num_eval = 16
    config.data.length = 64
    config.model.causal = True
    config.model.width = 64
    config.model.mlp_width = 256
    config.model.init_scheme = "scaled"
    config.train.num_steps = 300
    config.train.members_per_device = 2
    config.eval.every_steps = 30
    config.eval.curves = ("train", "validation")
    return config
