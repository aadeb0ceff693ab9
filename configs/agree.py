"""AGREE, over-fitted: 512 sentences in 8 frames of English, batch 16, 600 steps, 19 passes over the
data.

Command:  jaxreg train --config=configs/agree.py --workdir=runs/agree_one
Time:     4 s on two cores, compiled before
Result:   seed 0, no regularizer: train 100%, validation 79%, recombination 68%, unseen frames 72%
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Returns the base config with AGREE: half of the frames, three of eight verb phrases per noun."""
    config = base.get_config()
    config.data = ConfigDict(
        {
            "dataset": "agree",  # a name of `jaxreg list`
            "verbs_per_noun": 3,  # verb phrases each noun is trained with, of 8
            # frames never trained: relatives | no_comp (only those without "that")
            "held_out": "relatives",
            "num_train": 512,  # distinct training sentences
            "num_eval": 512,  # sentences in each other split
            "max_offset": 3,  # tokens of padding before a sentence, at most
            "length": 12,  # tokens of a row, padding included
        },
        type_safe=False,
    )
    config.train.num_steps = 600
    config.eval.every_steps = 60
    return config
