"""Every regularizer in one line: field of its strength, off value, an on value, effect, source.

`jaxreg list` prints this table; which config fields are traced follows from it; the contract tests
run over it.
"""

import dataclasses
from collections.abc import Mapping
from math import inf
from typing import Any

from jaxreg.reg import penalties
from jaxreg.reg.augmentations import AUGMENTATIONS
from jaxreg.study.design import components
from jaxreg.study.design.components import MODELS, PENALTIES


@dataclasses.dataclass(frozen=True)
class Regularizer:
    """One regularizer.

    Attributes:
      field: the config field that sets it; of what acts at test time only, where it is: a function
        of `jaxreg.probe`.
      off: the field's off value, at which its operation is absent exactly; None for structure,
        which has none.
      on: a value at which training differs from that without it.
      what: one line.
      source: the paper.
      also: other fields that it needs to be seen: field -> value.
      in_evaluation: it is part of the model, and evaluation has it too; all others never touch
        evaluation.
    """

    field: str
    off: float | int | None
    on: object
    what: str
    source: str
    also: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    in_evaluation: bool = False


def _dropout(field: str, what: str, source: str) -> Regularizer:
    return Regularizer(f"model.{field}", 0.0, 0.6, what, source)


def _optim(field: str, on: float, what: str, source: str, off: float = 0.0) -> Regularizer:
    return Regularizer(f"optim.{field}", off, on, what, source)


def _structure(field: str, on: object, what: str, source: str, **also: object) -> Regularizer:
    others = {f"model.{name}": value for name, value in also.items()}
    return Regularizer(f"model.{field}", None, on, what, source, others)


_SRIVASTAVA, _PASCANU = "Srivastava et al. 2014", "Pascanu et al. 2013"
_RATE = {"attention_dropout_rate": 0.6}

DROPOUT = {
    "attention dropout": _dropout(
        "attention_dropout_rate",
        "drops single connections after the softmax, each head for itself",
        f"{_SRIVASTAVA}; Devlin et al. 2019",
    ),
    "attention dropout by unit": _structure(
        "attention_dropout_unit",
        "head",
        "drops keys, queries, heads or spans of keys instead",
        "Zhou et al. 2020 (heads)",
        **_RATE,
    ),
    "DropKey": _structure(
        "attention_dropout_stage",
        "logits",
        "drops connections before the softmax",
        "Li et al. 2023",
        **_RATE,
    ),
    "shared attention dropout": _structure(
        "attention_dropout_share",
        ("head",),
        "one mask for all heads, queries or examples",
        "Raffel et al. 2020 (T5)",
        **_RATE,
    ),
    "targeted dropout": _structure(
        "attention_dropout_edges",
        "query->noun",
        "drops only the connection between two named places",
        "ours",
        **_RATE,
    ),
    "MLP dropout": _dropout(
        "mlp_dropout_rate", "drops hidden features behind the activation", _SRIVASTAVA
    ),
    "MLP dropout, old style": _dropout(
        "mlp_pre_activation_dropout_rate",
        "drops hidden features before the activation",
        _SRIVASTAVA,
    ),
    "residual dropout": _dropout(
        "residual_dropout_rate",
        "drops features of what a sublayer adds",
        "Vaswani et al. 2017, 5.4",
    ),
    "embedding dropout": _dropout(
        "embedding_dropout_rate",
        "drops features of the embedded sentence",
        "Vaswani et al. 2017, 5.4",
    ),
    "token dropout": _dropout(
        "token_dropout_rate",
        "zeroes whole tokens' embeddings, never the query's",
        "Iyyer et al. 2015; Gal & Ghahramani 2016",
    ),
    "key dropout": _dropout(
        "key_dropout_rate",
        "hides tokens as keys in all heads and layers (forgetful masking)",
        "Liu et al. 2022",
    ),
    "LayerDrop": _dropout("layer_dropout_rate", "skips whole blocks for a step", "Fan et al. 2020"),
    "stochastic depth": _dropout(
        "stochastic_depth_rate",
        "drops a sublayer's output, example by example",
        "Huang et al. 2016",
    ),
    "MC dropout": Regularizer(
        "probe.ensemble.mask_ensemble",
        None,
        None,
        "averages predictions over masks at test time",
        "Gal & Ghahramani 2016",
    ),
    "dropout by depth": _structure(
        "dropout_depth",
        "linear",
        "rates grow linearly from block to block",
        "Huang et al. 2016",
        **_RATE,
    ),
    "dropout schedule": Regularizer(
        "schedule.shape",
        None,
        "early",
        "a rate that is early, late, rising, falling or a curriculum",
        "Liu et al. 2023; Morerio et al. 2017",
        {
            "model.attention_dropout_rate": 0.6,
            "schedule.fields": ("model.attention_dropout_rate",),
            "schedule.share": 0.1,
        },
    ),
}

LOSS = {
    name.replace("_", " "): Regularizer(
        f"loss.{name}_strength", 0.0, 0.5, p.what, p.source, p.seen_with
    )
    for name, p in penalties.PENALTIES.items()
}

OPTIMIZATION = {
    "weight decay": _optim(
        "weight_decay",
        2.0,
        "shrinks matrices a little each step, apart from the gradient",
        "Loshchilov & Hutter 2019",
    ),
    "weight decay on all": Regularizer(
        "optim.decay_mask",
        None,
        "all",
        "decays biases, gains and embeddings too",
        "Loshchilov & Hutter 2019",
        {"optim.weight_decay": 2.0},
    ),
    "another optimizer": Regularizer(
        "optim.optimizer",
        None,
        "sgd",
        "Adam with decay in the gradient, SGD with momentum, or Lion instead of AdamW",
        "Kingma & Ba 2015; Chen et al. 2023",
    ),
    "gradient clipping": _optim(
        "max_grad_norm", 0.01, "cuts the gradient's global norm down", _PASCANU, inf
    ),
    "clipping by parameter": _optim(
        "max_param_grad_norm",
        0.001,
        "cuts each parameter tensor's gradient norm down",
        _PASCANU,
        inf,
    ),
    "adaptive clipping": _optim(
        "adaptive_clip",
        0.001,
        "cuts gradients down relative to their parameters, unit by unit",
        "Brock et al. 2021",
        inf,
    ),
    "gradient noise": _optim(
        "gradient_noise",
        1.0,
        "adds normal noise that decays over the steps",
        "Neelakantan et al. 2015",
    ),
    "SAM": _optim(
        "sam_radius", 0.5, "takes the gradient at the worst point nearby", "Foret et al. 2021"
    ),
    "ASAM": _optim("asam_radius", 2.0, "SAM in units of the parameters", "Kwon et al. 2021"),
    "averaged weights": _optim(
        "ema_decay",
        0.5,
        "evaluates an exponential moving average of the parameters",
        "Polyak & Juditsky 1992",
    ),
    "learning rate schedule": Regularizer(
        "optim.schedule",
        None,
        "constant",
        "cosine, linear or inverse root instead of a constant rate",
        "Loshchilov & Hutter 2017",
    ),
    "warm-up": Regularizer(
        "optim.warmup_steps", None, 2, "starts with small steps", "Goyal et al. 2017"
    ),
}

ARCHITECTURE = {
    "place of the norm": _structure(
        "norm",
        "post",
        "normalizes before (pre), behind (post) or around (sandwich) each sublayer",
        "Ba et al. 2016; Xiong et al. 2020; Ding et al. 2021",
    ),
    "kind of norm": _structure(
        "norm_kind",
        "rms",
        "RMSNorm, or LayerNorm without bias or gain",
        "Ba et al. 2016; Zhang & Sennrich 2019",
    ),
    "final norm": _structure(
        "final_norm", False, "normalizes before the output layer", "Xiong et al. 2020"
    ),
    "residual connections": _structure(
        "residual", False, "adds a sublayer's input to its output", "He et al. 2016"
    ),
    "LayerScale": _structure(
        "layer_scale",
        0.1,
        "a learned factor for each feature that a sublayer adds",
        "Touvron et al. 2021",
    ),
    "QK-norm": _structure("qk_norm", True, "normalizes queries and keys", "Henry et al. 2020"),
    "logit soft-cap": Regularizer(
        "model.logit_softcap",
        inf,
        0.5,
        "bends attention logits to stay below a cap",
        "Gemma Team 2024; Bello et al. 2017",
        in_evaluation=True,
    ),
    "sigmoid attention": _structure(
        "attention_kind", "sigmoid", "weights that need not sum to one", "Ramapuram et al. 2024"
    ),
    "initialization": _structure(
        "init_scheme",
        "normal",
        "normal .02, scaled by depth, or Xavier, instead of LeCun",
        "Radford et al. 2019; Glorot & Bengio 2010",
    ),
}

DATA = {
    name.rpartition("_")[0].replace("_", " "): Regularizer(
        f"augment.{name}", 0.0, 0.5, cls.what, cls.source
    )
    for name, cls in AUGMENTATIONS.items()
}

STOPPING = {
    "early stopping": Regularizer(
        "stopping.patience_evals",
        inf,
        1.0,
        "stops, with the best parameters, once a split no longer improves",
        "Prechelt 1998",
    ),
    "best checkpoint": Regularizer(
        "stopping.keep_best",
        None,
        True,
        "keeps the best parameters of a whole training",
        "Prechelt 1998",
    ),
    "stop at accuracy": Regularizer(
        "stopping.at_accuracy",
        inf,
        0.6,
        "stops at the first evaluation that reaches an accuracy",
        "ours",
    ),
    "stop at train loss": Regularizer(
        "stopping.at_train_loss",
        0.0,
        1.0,
        "stops at the first evaluation below a training loss",
        "ours",
    ),
}

REGULARIZER_KINDS: Mapping[str, Mapping[str, Regularizer]] = {
    "dropout": DROPOUT,
    "loss terms": LOSS,
    "optimization": OPTIMIZATION,
    "architecture": ARCHITECTURE,
    "data": DATA,
    "stopping": STOPPING,
}
"""Kind -> name -> regularizer."""

REGULARIZERS: Mapping[str, Regularizer] = {
    name: entry for table in REGULARIZER_KINDS.values() for name, entry in table.items()
}
"""Name -> regularizer, of all kinds."""

TRACED = ("model", "loss", "augment", "optim")
"""Sections whose numbers with an off value are traced; the learning rate, which has none, is too.
"""


def strengths() -> dict[str, dict[str, float | None]]:
    """Section -> name -> off value of traced numbers, own pieces too; None without off value.

    A config has those of its own model only.
    """
    table: dict[str, dict[str, float | None]] = {section: {} for section in TRACED}
    table["optim"]["learning_rate"] = None
    table["loss"] = {f"{name}_strength": 0.0 for name in PENALTIES}
    table["model"] = {
        name: 0.0
        for module in MODELS.maps[0]
        for name in components.model_fields(module)
        if name.endswith(components.TRACED_ENDINGS)
    }
    for entry in REGULARIZERS.values():
        section, _, name = entry.field.partition(".")
        if section in TRACED and entry.off is not None:
            table[section][name] = entry.off
    return table
