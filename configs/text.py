"""TEXT, many passes over little: 512 windows of the sample, batch 32, 400 steps, 25 passes over the
data.

Command:  jaxreg train --config=configs/text.py --workdir=runs/text_one
Time:     6 s on two cores, compiled before
Result:   seed 0, no regularizer: train 100%, validation 19%, test 16%, no better than a guess;
          validation loss 2.9 nats after 80 steps, 4.8 at the end

Other prose, once imported (see `jaxreg/data/text/corpora.py`), and one pass:
--config.data.source=shakespeare --config.data.num_train=12800
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns the base config with the sample of TEXT."""
    config = base_config.get_config("text")
    config.data.num_train = 512
    config.train.batch_size = 32
    config.eval.curves = ("train", "validation")
    return config
