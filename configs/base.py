"""Every config field once, with its default and its unit.

Every other config starts from `get_config()` and changes what it must. What a field may be is checked by the table
`jaxreg.study.fields.FIELDS`; a test keeps the two files equal.

A rate may be None: then the program has no such dropout site. 0.0 keeps the site, at its off value. `inf` is the off
value of the gradient clip and of early stopping.
"""

from math import inf

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the over-fitted regime of CATSAT without a regularizer: 256 sentences, batch 16, 400 steps."""
    # Not type-safe here, on purpose: jaxreg checks the whole file afterwards and reports all mistakes at once.
    config = ConfigDict(type_safe=False)
    config.seed = 0  # a whole number; `jaxreg train` only, `jaxreg compare` has its own seeds

    config.data = ConfigDict({
        "dataset": "catsat",  # a name of `jaxreg list`
        "verbs_per_noun": 4,  # verbs each noun is trained with, of 12
        "neutral_rate": 0.3,  # probability that a determiner does not tell the number
        "num_train": 256,  # distinct training sentences
        "num_eval": 512,  # sentences in each other split
        "max_offset": 3,  # tokens of padding before a sentence, at most
        "length": 12,  # tokens of a row, padding included
        "disambiguating_rate": 0.0,  # share of training sentences that tell the subject from the nearest noun
    }, type_safe=False)

    config.model = ConfigDict({
        "num_layers": 2,  # blocks
        "width": 32,  # features of the residual stream
        "num_heads": 4,  # heads; divides width
        "mlp_width": 128,  # hidden features
        "positions": "learned",  # learned | sinusoidal | rotary | none
        "norm": "pre",  # pre | post | none
        "final_norm": True,  # False: the block exactly as the essay draws it
        "residual": True,  # False: no residual connections
        "causal": False,  # True: a position attends to itself and earlier ones only
        "attention_dropout_rate": 0.0,  # probability, per connection, after the softmax
        "mlp_dropout_rate": 0.0,  # probability, per hidden feature, after the activation
        "residual_dropout_rate": None,  # probability, per feature, before the residual sum
        "mlp_pre_activation_dropout_rate": None,  # probability, per hidden feature, before the activation
    }, type_safe=False)

    config.loss = ConfigDict({
        "label_smoothing_strength": 0.0,  # share of the target spread over all outputs
    }, type_safe=False)

    config.optim = ConfigDict({
        "learning_rate": 3e-3,  # AdamW, at the end of the warm-up
        "b1": 0.9,  # decay per step of the mean of gradients
        "b2": 0.98,  # decay per step of the mean of squared gradients
        "eps": 1e-8,  # added to the root of the mean square
        "weight_decay": 0.0,  # AdamW coefficient (times the learning rate, per step), matrices only
        "max_grad_norm": 1.0,  # global norm the gradient is cut down to; inf is off
        "schedule": "cosine",  # cosine | constant
        "warmup_steps": 30,  # steps
    }, type_safe=False)

    config.train = ConfigDict({
        "num_steps": 400,  # steps
        "batch_size": 16,  # sentences
        "member_axis": "map",  # map: a member's bits do not depend on its neighbors | vmap: for TPU and GPU
        "members_per_device": 8,  # members one device trains in one program, at most
        "layout": "members",  # members: devices share out the members | data: devices share out one member's batch
    }, type_safe=False)

    config.eval = ConfigDict({
        "every_steps": 40,  # steps between evaluations
        "curves": ("train", "validation", "recombination"),  # views evaluated during training; all are at the end
    }, type_safe=False)

    config.stopping = ConfigDict({
        "split": "validation",  # the split early stopping looks at
        "patience_evals": inf,  # evaluations without improvement before a member stops; inf is off
    }, type_safe=False)

    config.checkpoint = ConfigDict({
        "every_seconds": 30.0,  # seconds between saves, at least; never changes a result
    }, type_safe=False)
    return config
