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

from configs import base


def get_config() -> ConfigDict:
    """Returns the base config with the sample of TEXT."""
    config = base.get_config()
    config.data = ConfigDict(
        {
            "dataset": "text",  # a name of `jaxreg list`
            "source": "sample",  # sample | shakespeare | sotu: the last two must be imported first
            "num_train": 512,  # training windows
            "num_eval": 512,  # windows of validation, and of test
            "held_out_rate": 0.15,  # share of the documents in validation, and in test
            "length": 17,  # 16 characters and the place of the answer
        },
        type_safe=False,
    )
    config.train.batch_size = 32
    config.eval.curves = ("train", "validation")
    return config
