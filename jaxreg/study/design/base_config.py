"""Every config field once, with its default and its unit.

Every config starts from `get_config()` and changes what it must. What a field may be is checked by
`config_fields.FIELDS`; a test keeps the two files equal.

A strength may be None: then the program has no such term. 0.0 keeps the term, at its off value;
`inf` is the off value of clips, caps and early stopping.
"""

from math import inf

from ml_collections import ConfigDict

from jaxreg.data import DEFAULT_DATASET
from jaxreg.reg.augmentations import AUGMENTATIONS
from jaxreg.reg.penalties import PENALTIES
from jaxreg.study.design.components import SOURCES


def get_config(dataset: str = DEFAULT_DATASET) -> ConfigDict:
    """Returns the over-fitted regime without a regularizer: batch 16, 400 steps.

    Args:
      dataset: a name of `jaxreg list`. Its settings have their defaults; those of CATSAT draw 256
        training sentences.
    """
    # Not type-safe here, on purpose: jaxreg checks the whole file afterwards and reports all
    # mistakes at once.
    config = ConfigDict(type_safe=False)
    config.seed = 0  # a whole number; `jaxreg train` only, `jaxreg compare` has its own seeds

    # The settings of the data set, each at its default; what they mean stands beside them.
    data = {"dataset": dataset} | SOURCES[dataset].defaults()
    config.data = ConfigDict(data, type_safe=False)

    config.model = ConfigDict(
        {
            # a name of jaxreg.study.design.components.MODELS; the fields below are this module's
            "module": "transformer",
            "num_layers": 2,  # blocks
            "width": 32,  # features of the residual stream
            "num_heads": 4,  # heads; divides width
            # heads of keys and values, divides num_heads (grouped queries); None: as many
            "num_kv_heads": None,
            "mlp_width": 128,  # hidden features
            "mlp_kind": "gelu",  # gelu | swiglu (three matrices; at 2/3 the width as many numbers)
            # learned | sinusoidal | sinusoidal_2d (of rows and columns of patches) | rotary | none
            "positions": "learned",
            # query (the answer is read where it is asked; of images the place behind the patches, a
            # class token) | mean (over all positions)
            "pooling": "query",
            "rotary_base": 10_000.0,  # of the frequencies of rotary positions
            "norm": "pre",  # pre | post | sandwich (before and behind) | none
            # layer | layer_no_bias | layer_plain (neither gain nor bias) | rms
            "norm_kind": "layer",
            "final_norm": True,  # False: the block exactly as the essay draws it
            "residual": True,  # False: no residual connections
            "use_bias": True,  # False: linear layers have no biases; those of norms are norm_kind's
            # True: the table of tokens is the output layer's matrix, too; outputs must be tokens
            "tie_embeddings": False,
            # initial value of a learned factor per feature of what a sublayer adds; None is absent
            "layer_scale": None,
            "qk_norm": False,  # True: queries and keys are normalized
            "attention_kind": "softmax",  # softmax | sigmoid
            # reference | blockwise (attention in memory O(T)) | pallas (the same in kernels for
            # TPUs and GPUs) | None: by size and platform
            "implementation": None,
            # lecun | normal | scaled | xavier | lecun_small_positions (lecun, but learned positions
            # start at N(0, .02^2))
            "init_scheme": "lecun",
            # float32 | bfloat16: of activations and products; parameters, attention weights, logits
            # and loss stay float32
            "dtype": "float32",
            # True: the blocks are one scan over stacked parameters, which compiles faster; the same
            # numbers and masks, up to rounding
            "scan_layers": False,
            # none | block (the backward pass computes blocks again) | dots (all but linear layers)
            "remat": "none",
            "causal": False,  # True: a position attends to itself and earlier ones only
            "attention_dropout_rate": 0.0,  # probability, per unit
            "attention_dropout_unit": "connection",  # connection | key | query | head | span
            # weights (after the softmax) | logits (before it: DropKey)
            "attention_dropout_stage": "weights",
            "attention_dropout_share": (),  # of example, head, query: one mask for all of them
            "attention_dropout_span_length": None,  # keys; for unit span only
            "attention_dropout_bits": 1,  # version of the random bits; 2 costs less on a TPU
            # all | query->noun, ...: only this connection may be dropped (query: where the answer
            # is)
            "attention_dropout_edges": "all",
            "mlp_dropout_rate": 0.0,  # probability, per hidden feature, after the activation
            "residual_dropout_rate": None,  # probability, per feature, before the residual sum
            # probability, per hidden feature, before the activation
            "mlp_pre_activation_dropout_rate": None,
            "embedding_dropout_rate": None,  # probability, per feature of the embedded sentence
            "token_dropout_rate": None,  # probability, per token: its embedding is zeroed
            # probability, per token: no other position sees it, in any layer (forgetful masking)
            "key_dropout_rate": None,
            # probability, per block and step: the block is skipped (LayerDrop)
            "layer_dropout_rate": None,
            "stochastic_depth_rate": None,  # probability, per example and sublayer: it adds nothing
            # constant | linear (rates grow with depth, the last block has all)
            "dropout_depth": "constant",
            "logit_softcap": None,  # attention logits are bent to stay below it; inf is off
        },
        type_safe=False,
    )

    # One field for each line of jaxreg.reg.penalties.PENALTIES: <name>_strength, nats added per
    # unit of the penalty.
    config.loss = ConfigDict({f"{name}_strength": None for name in PENALTIES}, type_safe=False)
    config.loss.label_smoothing_strength = 0.0  # share of the target spread over all outputs

    # One field for each line of jaxreg.reg.augmentations.AUGMENTATIONS; None is absent, 0 is off.
    config.augment = ConfigDict(dict.fromkeys(AUGMENTATIONS), type_safe=False)

    config.optim = ConfigDict(
        {
            "optimizer": "adamw",  # adamw | adam_l2 (the decay goes through Adam) | sgd | lion
            "learning_rate": 3e-3,  # at the end of the warm-up
            "b1": 0.9,  # decay per step of the mean of gradients (adam, lion); momentum (sgd)
            "b2": 0.98,  # decay per step of the mean of squared gradients
            "eps": 1e-8,  # added to the root of the mean square
            "weight_decay": 0.0,  # coefficient (times the learning rate, per step)
            # what is decayed: kernels (matrices of linear layers) | kernels_and_embeddings | all
            "decay_mask": "kernels",
            "max_grad_norm": 1.0,  # global norm the gradient is cut down to; inf is off
            "max_param_grad_norm": None,  # the same for each parameter tensor by itself; inf is off
            # largest gradient norm per parameter norm, unit by unit; inf is off
            "adaptive_clip": None,
            # variance of the noise on the gradient at the first step; 0 is off
            "gradient_noise": None,
            # distance at which the gradient is taken again (sharpness-aware); 0 is off
            "sam_radius": None,
            "asam_radius": None,  # the same in units of the parameters; 0 is off
            "ema_decay": None,  # per step, of the averaged parameters that are evaluated; 0 is off
            "schedule": "cosine",  # cosine | constant | inverse_root | linear
            "warmup_steps": 30,  # steps
        },
        type_safe=False,
    )

    # A strength over the steps: its value times a factor in [0, 1].
    config.schedule = ConfigDict(
        {
            "shape": "constant",  # constant | early | late | rising | falling | curriculum
            # of the training: where early ends, late begins, and the others have arrived
            "share": 0.5,
            # the strengths it acts on, such as ("model.attention_dropout_rate",); not the
            # optimizer's
            "fields": (),
        },
        type_safe=False,
    )

    # Counterfactual dropout: one connection of one example is kept in one training step, whatever
    # its mask says.
    config.counterfactual = ConfigDict(
        {
            "step": None,  # the training step; None is absent
            "example": 0,  # position in that step's batch
            "layer": 0,  # block
            "head": 0,  # head
            "query": 0,  # position of who looks
            "key": 0,  # position of whom is looked at
        },
        type_safe=False,
    )

    config.train = ConfigDict(
        {
            "num_steps": 400,  # steps
            "batch_size": 16,  # sentences
            # parts that a batch is computed in, one after the other; the same gradient and masks
            "accumulate_steps": 1,
            # map: a member's bits do not depend on its neighbors | vmap: for TPU and GPU
            "member_axis": "map",
            "members_per_device": 8,  # members one device trains in one program, at most
            # members: devices share out the members | data: devices share out one member's batch
            "layout": "members",
            # table: training rows are on the devices | stream: they are read while training |
            # auto: by size; never changes a result
            "input": "auto",
        },
        type_safe=False,
    )

    config.eval = ConfigDict(
        {
            "every_steps": 40,  # steps between evaluations
            # views evaluated during training; all are at the end
            "curves": ("train", "validation", "recombination"),
            # also recorded at each evaluation: gradients, drift, ... (engine/diagnostics.py)
            "traces": (),
        },
        type_safe=False,
    )

    config.stopping = ConfigDict(
        {
            "split": "validation",  # the split that early stopping reads
            # evaluations without improvement before a member stops with the best parameters; inf is
            # off
            "patience_evals": inf,
            # True: the parameters of the lowest loss are kept also where nothing stops
            "keep_best": False,
            "at_accuracy": inf,  # accuracy on the split at which a member stops; inf is off
            # nats, mean training loss between evaluations at which a member stops; 0 is off
            "at_train_loss": 0.0,
        },
        type_safe=False,
    )

    # seconds between saves, at least; never changes a result
    config.checkpoint = ConfigDict({"every_seconds": 30.0}, type_safe=False)
    return config
