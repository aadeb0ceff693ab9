"""What every config field may be: the table `FIELDS` and one data section per data set.

Defaults and units are in base_config.py; those of data sets are beside their settings in
`jaxreg.data`.
"""

import dataclasses
from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple

from jaxreg import optim
from jaxreg.attention.dropout import BITS_VERSIONS, SHAREABLE, STAGES, UNITS
from jaxreg.attention.validate import ATTENTION_KINDS as ATTENTION_KINDS
from jaxreg.attention.validate import IMPLEMENTATIONS
from jaxreg.data import DEFAULT_DATASET, source
from jaxreg.nn.init import INIT_SCHEMES
from jaxreg.nn.norms import NORM_KINDS
from jaxreg.nn.options import DROPOUT_DEPTHS, MLP_KINDS, NORMS, POOLINGS, POSITIONS, REMATS
from jaxreg.nn.precision import COMPUTE_DTYPES
from jaxreg.reg import penalties
from jaxreg.reg.augmentations import AUGMENTATIONS
from jaxreg.reg.schedules import SCHEDULES
from jaxreg.study.design import components
from jaxreg.study.design.components import MODELS, PENALTIES, SOURCES
from jaxreg.study.design.field_types import (
    Boolean,
    Choice,
    Edges,
    Either,
    Evaluations,
    Field,
    Names,
    Real,
    Text,
    Whole,
    Word,
)
from jaxreg.train.stream import INPUTS

TRACE_NAMES = ("gradients", "drift", "mismatch")
"""What a run can record besides curves; the functions are in `study/engine/diagnostics.py`."""

MAX_SEED = 2**31 - 1  # the largest seed that both PRNG keys and numpy generators take

_RATE = Real("a drop probability", maximum=1.0, absent=True)
_CLIP = Real("a norm", above=True, off=True, absent=True)
_AUGMENTING = {
    "alpha": Real("alpha of a Beta distribution", absent=True),
    "rate": Real("a probability", maximum=1.0, absent=True, closed=True),
}


def penalty_field(penalty: type) -> Real:
    """What the strength of a penalty may be."""
    return Real("a strength", maximum=getattr(penalty, "largest", inf), absent=True, closed=True)


def _data_fields(dataset: source.Source) -> dict[str, Field]:
    """The fields of a data set's section, from its settings."""
    return {
        f"data.{name}": _field_of(setting)
        for name, setting in source.fields_of(dataset.settings).items()
    }


def _field_of(setting: dataclasses.Field) -> Field:
    rule = setting.metadata
    if rule["choices"] is not None:
        return Choice(rule["choices"])
    if isinstance(setting.default, str):
        return Text(rule["unit"])
    if isinstance(setting.default, bool):
        return Boolean()
    if isinstance(setting.default, int):
        return Whole(rule["unit"], rule["minimum"], rule["maximum"])
    maximum = inf if rule["maximum"] is None else float(rule["maximum"])
    return Real(rule["unit"], float(rule["minimum"]), maximum, closed=True)


FIELDS: Mapping[str, Field] = {
    "seed": Whole("the run (a seed)", maximum=MAX_SEED),
    "data.dataset": Choice(tuple(SOURCES)),
    **_data_fields(SOURCES[DEFAULT_DATASET]),
    "model.module": Choice(tuple(MODELS)),
    "model.num_layers": Whole("blocks", minimum=1),
    "model.width": Whole("features", minimum=1),
    "model.num_heads": Whole("heads", minimum=1),
    "model.num_kv_heads": Whole("heads", minimum=1, absent=True),
    "model.mlp_width": Whole("features", minimum=1),
    "model.mlp_kind": Choice(MLP_KINDS),
    "model.positions": Choice(POSITIONS),
    "model.pooling": Choice(POOLINGS),
    "model.rotary_base": Real("a base", above=True),
    "model.norm": Choice(NORMS),
    "model.norm_kind": Choice(tuple(NORM_KINDS)),
    "model.final_norm": Boolean(),
    "model.residual": Boolean(),
    "model.use_bias": Boolean(),
    "model.tie_embeddings": Boolean(),
    "model.layer_scale": Real("an initial factor", absent=True),
    "model.qk_norm": Boolean(),
    "model.attention_kind": Choice(ATTENTION_KINDS),
    "model.implementation": Choice(IMPLEMENTATIONS, absent=True),
    "model.init_scheme": Choice(tuple(INIT_SCHEMES)),
    "model.dtype": Choice(tuple(COMPUTE_DTYPES)),
    "model.scan_layers": Boolean(),
    "model.remat": Choice(REMATS),
    "model.causal": Boolean(),
    "model.attention_dropout_rate": _RATE,
    "model.attention_dropout_unit": Choice(tuple(UNITS)),
    "model.attention_dropout_stage": Choice(STAGES),
    "model.attention_dropout_share": Names("coordinates", SHAREABLE, empty=True),
    "model.attention_dropout_span_length": Whole("keys", minimum=1, absent=True),
    "model.attention_dropout_bits": Whole("versions", minimum=1, maximum=max(BITS_VERSIONS)),
    "model.attention_dropout_edges": Edges(),
    "model.mlp_dropout_rate": _RATE,
    "model.residual_dropout_rate": _RATE,
    "model.mlp_pre_activation_dropout_rate": _RATE,
    "model.embedding_dropout_rate": _RATE,
    "model.token_dropout_rate": _RATE,
    "model.key_dropout_rate": _RATE,
    "model.layer_dropout_rate": _RATE,
    "model.stochastic_depth_rate": _RATE,
    "model.dropout_depth": Choice(DROPOUT_DEPTHS),
    "model.logit_softcap": Real("a cap", above=True, off=True, absent=True),
    **{
        f"loss.{name}_strength": penalty_field(penalty)
        for name, penalty in penalties.PENALTIES.items()
    },
    **{
        f"augment.{name}": _AUGMENTING[augmentation.unit]
        for name, augmentation in AUGMENTATIONS.items()
    },
    "optim.optimizer": Choice(tuple(optim.OPTIMIZERS)),
    "optim.learning_rate": Real("a step size", above=True),
    "optim.b1": Real("a decay per step", maximum=1.0),
    "optim.b2": Real("a decay per step", maximum=1.0),
    "optim.eps": Real("a small number", above=True),
    "optim.weight_decay": Real("a coefficient", absent=True),
    "optim.decay_mask": Choice(tuple(optim.DECAY_MASKS)),
    "optim.max_grad_norm": _CLIP,
    "optim.max_param_grad_norm": _CLIP,
    "optim.adaptive_clip": _CLIP,
    "optim.gradient_noise": Real("a variance", absent=True),
    "optim.sam_radius": Real("a distance", absent=True),
    "optim.asam_radius": Real("a distance", absent=True),
    "optim.ema_decay": Real("a decay per step", maximum=1.0, absent=True),
    "optim.schedule": Choice(tuple(optim.SCHEDULES)),
    "optim.warmup_steps": Whole("steps"),
    "schedule.shape": Choice(tuple(SCHEDULES)),
    "schedule.share": Real("a share of the training", maximum=1.0, closed=True),
    "schedule.fields": Names("strengths that are off at 0", empty=True),
    "counterfactual.step": Whole("the step", absent=True),
    "counterfactual.example": Whole("the position in the batch"),
    "counterfactual.layer": Whole("the block"),
    "counterfactual.head": Whole("the head"),
    "counterfactual.query": Whole("the position that looks"),
    "counterfactual.key": Whole("the position that is looked at"),
    "train.num_steps": Whole("steps", minimum=1),
    "train.batch_size": Whole("sentences", minimum=1),
    "train.accumulate_steps": Whole("parts", minimum=1),
    "train.member_axis": Choice(("map", "vmap")),
    "train.members_per_device": Whole("members", minimum=1),
    "train.layout": Choice(("members", "data")),
    "train.input": Choice(INPUTS),
    "eval.every_steps": Whole("steps", minimum=1),
    "eval.curves": Names("views"),
    "eval.traces": Names("traces", TRACE_NAMES, empty=True),
    "stopping.split": Choice(SOURCES[DEFAULT_DATASET].splits),
    "stopping.patience_evals": Evaluations("evaluations", minimum=1.0, off=True),
    "stopping.keep_best": Boolean(),
    "stopping.at_accuracy": Real("an accuracy", maximum=1.0, above=True, off=True, closed=True),
    "stopping.at_train_loss": Real("a loss in nats"),
    "checkpoint.every_seconds": Real("seconds"),
}
"""Field -> what it may be, for every field of `base_config`, with the default data set."""

ADDED: Mapping[str, Any] = {
    "model.dtype": "float32",
    "model.attention_dropout_bits": 1,
    "model.num_kv_heads": None,
    "model.mlp_kind": "gelu",
    "model.rotary_base": 10_000.0,
    "model.use_bias": True,
    "model.tie_embeddings": False,
    "model.scan_layers": False,
    "model.remat": "none",
    "model.pooling": "query",
    "train.accumulate_steps": 1,
}
"""Fields that configs of earlier versions do not have -> what they were trained with.

Those of the model are of the model "transformer". At this value a field is no part of a member's
address, so that the address stays what it was.
"""


def added(module: Any) -> dict[str, Any]:
    """The fields of `ADDED` that a config with this model has."""
    ours = module == "transformer"
    return {name: value for name, value in ADDED.items() if ours or not name.startswith("model.")}


WITHOUT_EFFECT: Mapping[str, Any] = {"train.input": "auto"}
"""Fields that change no result, whatever the model, and are no part of a member's address -> what
configs of earlier versions, which do not have them, were trained with."""


class Chosen(NamedTuple):
    """The names of data set and model, which decide the fields; unknown unless a known name."""

    dataset: Any
    module: Any = "transformer"


def fields_of(dataset: Any, module: Any = "transformer") -> Mapping[str, Field]:
    """Field -> what it may be, for a data set and model.

    All data sets' fields where the data set is unknown, all models' where the model is None.
    """
    chosen = (
        [SOURCES[dataset]]
        if isinstance(dataset, str) and dataset in SOURCES
        else list(SOURCES.values())
    )
    own: dict[str, list[Field]] = {}
    for each in chosen:
        for name, field in _data_fields(each).items():
            own.setdefault(name, []).append(field)
    data = {
        name: fields[0] if len(set(fields)) == 1 else Either(tuple(dict.fromkeys(fields)))
        for name, fields in own.items()
    }
    splits = tuple(dict.fromkeys(split for each in chosen for split in each.splits))
    rest = {
        name: field
        for name, field in FIELDS.items()
        if not name.startswith("data.") and name != "seed"
    }
    if isinstance(module, str) and module in MODELS and module != "transformer":
        rest = _model_fields(module) | {
            name: field for name, field in rest.items() if not name.startswith("model.")
        }
    for each in MODELS.maps[0] if module is None else ():
        rest = _model_fields(each) | rest
    rest |= {"model.module": Choice(tuple(MODELS))} | {
        f"loss.{name}_strength": penalty_field(penalty) for name, penalty in PENALTIES.items()
    }
    return {
        "seed": FIELDS["seed"],
        "data.dataset": Choice(tuple(SOURCES)),
        **data,
        **rest,
        "stopping.split": Choice(splits),
    }


def _model_fields(module: str) -> dict[str, Field]:
    """The fields of a person's own model, from its defaults."""
    return {
        f"model.{name}": _field_like(name, default)
        for name, default in components.model_fields(module).items()
    }


def _field_like(name: str, default: Any) -> Field:
    """What may stand in the place of a default."""
    if name.endswith(components.TRACED_ENDINGS):
        return Real("a strength", absent=True, maximum=1.0 if name.endswith("_rate") else inf)
    if isinstance(default, bool):
        return Boolean()
    if isinstance(default, int):
        return Whole("a size")
    if isinstance(default, float):
        return Real("a number", minimum=-inf)
    return Word()
