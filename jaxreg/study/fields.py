"""What every config field may be: one table, `FIELDS`. Defaults and units stand in configs/base.py."""

import ast
import dataclasses
from collections.abc import Callable, Mapping
from math import inf, isfinite, isnan

from jaxreg.data import grammar
from jaxreg.study.catalog import DATASETS

MAX_SEED = 2**31 - 1  # the largest seed that every PRNG key and numpy generator takes alike


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number from `minimum` to `maximum`."""

    unit: str
    minimum: int = 0
    maximum: int | None = None

    def allows(self, value: object) -> bool:
        """True if the value is an int in the range."""
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return is_whole and value >= self.minimum and (self.maximum is None or value <= self.maximum)

    def parse(self, text: str) -> object:
        """The number, or the text as it is where it is none (`allows` then says no)."""
        return _converted(int, text)

    def canonical(self, value: object) -> object:
        """The one form in which an allowed value is kept."""
        return value

    def __str__(self) -> str:
        limit = f"{self.minimum} or more" if self.maximum is None else f"{self.minimum} to {self.maximum}"
        return f"a whole number of {self.unit}, {limit}"


@dataclasses.dataclass(frozen=True)
class Real:
    """A number in [minimum, maximum), without `minimum` where `above`, with inf where `off` and None where `absent`."""

    what: str
    minimum: float = 0.0
    maximum: float = inf
    above: bool = False
    off: bool = False
    absent: bool = False

    def allows(self, value: object) -> bool:
        """True if the value is in the range; NaN never is."""
        if value is None:
            return self.absent
        if isinstance(value, bool) or not isinstance(value, int | float) or isnan(value):
            return False
        if not isfinite(value):
            return self.off and value > 0
        return value < self.maximum and (value > self.minimum if self.above else value >= self.minimum)

    def parse(self, text: str) -> object:
        """The number, None for the word, or the text as it is where it is neither."""
        return None if text.strip().lower() in ("none", "null") else _converted(float, text)

    def canonical(self, value: object) -> object:
        """A float or None: 0 and 0.0 must not be two configs."""
        return None if value is None else float(value)

    def __str__(self) -> str:
        low = f"above {self.minimum:g}" if self.above else f"at least {self.minimum:g}"
        high = f" and below {self.maximum:g}" if isfinite(self.maximum) else ""
        off = ", or inf (off)" if self.off else ""
        return f"{self.what}: a number {low}{high}{off}{', or None (absent)' if self.absent else ''}"


@dataclasses.dataclass(frozen=True)
class Evaluations(Real):
    """A whole number of evaluations, 1 or more, or inf; kept as a float, for it is a strength."""

    def allows(self, value: object) -> bool:
        """True for 1, 2, ... and inf."""
        return super().allows(value) and (value == inf or value == int(value))

    def __str__(self) -> str:
        return f"{self.what}: a whole number, 1 or more, or inf (off)"


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or False."""

    def allows(self, value: object) -> bool:
        """True if the value is a bool."""
        return isinstance(value, bool)

    def parse(self, text: str) -> object:
        """The bool, or the text as it is."""
        return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower(), text)

    def canonical(self, value: object) -> object:
        """The value itself."""
        return value

    def __str__(self) -> str:
        return "True or False"


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of a few names."""

    names: tuple[str, ...]

    def allows(self, value: object) -> bool:
        """True if the value is one of the names."""
        return isinstance(value, str) and value in self.names

    def parse(self, text: str) -> object:
        """The text."""
        return text.strip()

    def canonical(self, value: object) -> object:
        """The value itself."""
        return value

    def __str__(self) -> str:
        return f"one of: {', '.join(self.names)}"


@dataclasses.dataclass(frozen=True)
class Names:
    """A tuple of different names, at least one; written a,b or ('a', 'b') in an override."""

    what: str

    def allows(self, value: object) -> bool:
        """True for a list or tuple of different strings that are not empty."""
        is_list = isinstance(value, list | tuple) and all(isinstance(name, str) and name for name in value)
        return is_list and 0 < len(value) == len(set(value))

    def parse(self, text: str) -> object:
        """The names, or the text as it is."""
        if text.strip()[:1] in ("(", "["):
            return _converted(ast.literal_eval, text)
        return tuple(name.strip() for name in text.split(","))

    def canonical(self, value: object) -> object:
        """A tuple."""
        return tuple(value)

    def __str__(self) -> str:
        return f"{self.what}: different names, at least one"


Field = Whole | Real | Flag | Choice | Names


def _converted(convert: Callable, text: str) -> object:
    try:
        return convert(text.strip())
    except (ValueError, SyntaxError):
        return text


_RATE = Real("a drop probability", maximum=1.0, absent=True)

FIELDS: Mapping[str, Field] = {
    "seed": Whole("the run (a seed)", maximum=MAX_SEED),
    "data.dataset": Choice(tuple(DATASETS)),
    "data.verbs_per_noun": Whole("verbs", minimum=1, maximum=grammar.NUM_VERBS - 1),
    "data.neutral_rate": Real("a probability", maximum=1.0),
    "data.num_train": Whole("sentences", minimum=1),
    "data.num_eval": Whole("sentences", minimum=1),
    "data.max_offset": Whole("tokens"),
    "data.length": Whole("tokens", minimum=1),
    "data.disambiguating_rate": Real("a share", maximum=1.0),
    "model.num_layers": Whole("blocks", minimum=1),
    "model.width": Whole("features", minimum=1),
    "model.num_heads": Whole("heads", minimum=1),
    "model.mlp_width": Whole("features", minimum=1),
    "model.positions": Choice(("learned", "sinusoidal", "rotary", "none")),
    "model.norm": Choice(("pre", "post", "none")),
    "model.final_norm": Flag(),
    "model.residual": Flag(),
    "model.causal": Flag(),
    "model.attention_dropout_rate": _RATE,
    "model.mlp_dropout_rate": _RATE,
    "model.residual_dropout_rate": _RATE,
    "model.mlp_pre_activation_dropout_rate": _RATE,
    "loss.label_smoothing_strength": Real("a share", maximum=1.0),
    "optim.learning_rate": Real("a step size", above=True),
    "optim.b1": Real("a decay per step", maximum=1.0),
    "optim.b2": Real("a decay per step", maximum=1.0),
    "optim.eps": Real("a small number", above=True),
    "optim.weight_decay": Real("a coefficient"),
    "optim.max_grad_norm": Real("a norm", above=True, off=True),
    "optim.schedule": Choice(("cosine", "constant")),
    "optim.warmup_steps": Whole("steps"),
    "train.num_steps": Whole("steps", minimum=1),
    "train.batch_size": Whole("sentences", minimum=1),
    "train.member_axis": Choice(("map", "vmap")),
    "train.members_per_device": Whole("members", minimum=1),
    "train.layout": Choice(("members", "data")),
    "eval.every_steps": Whole("steps", minimum=1),
    "eval.curves": Names("views"),
    "stopping.split": Choice(tuple(dict.fromkeys(split for d in DATASETS.values() for split in d.splits))),
    "stopping.patience_evals": Evaluations("evaluations", minimum=1.0, off=True),
    "checkpoint.every_seconds": Real("seconds"),
}
"""Field -> what it may be, for every field of configs/base.py."""
