"""What there is to choose from: regularizers and data sets, with one line each. `jaxreg list` prints these tables."""

import dataclasses
from collections.abc import Callable, Mapping
from math import inf

from jaxreg.data import View, catsat, splits


@dataclasses.dataclass(frozen=True)
class Regularizer:
    """One regularizer.

    Attributes:
      field: the config field that sets it.
      off: the field's off value; None for structure, which has none.
      what: one line.
      source: the paper.
    """

    field: str
    off: float | int | None
    what: str
    source: str


@dataclasses.dataclass(frozen=True)
class DatasetEntry:
    """One data set.

    Attributes:
      what: one line.
      splits: names of the splits.
      views: what is reported, in order; each is a split, a part of one, or one with connections cut.
      check: raises ValueError, one line per mistake, where the settings of the config's data section make no data set.
    """

    what: str
    splits: tuple[str, ...]
    views: tuple[View, ...]
    check: Callable[..., object]

    def view_names(self, neutral_rate: float | int) -> tuple[str, ...]:
        """The names of the views that have sentences: at neutral_rate 0 the neutral ones have none."""
        return tuple(view.name for view in self.views if neutral_rate > 0 or view.subset != "neutral")


_SRIVASTAVA = "Srivastava et al. 2014"

REGULARIZERS: Mapping[str, Regularizer] = {
    "attention dropout": Regularizer(
        "model.attention_dropout_rate", 0.0, "drops single connections after the softmax, each head for itself",
        f"{_SRIVASTAVA}; Devlin et al. 2019"),
    "MLP dropout": Regularizer(
        "model.mlp_dropout_rate", 0.0, "drops hidden features behind the activation", _SRIVASTAVA),
    "MLP dropout, old style": Regularizer(
        "model.mlp_pre_activation_dropout_rate", 0.0, "drops hidden features before the activation", _SRIVASTAVA),
    "residual dropout": Regularizer(
        "model.residual_dropout_rate", 0.0, "drops features of what a sublayer adds", "Vaswani et al. 2017, 5.4"),
    "label smoothing": Regularizer(
        "loss.label_smoothing_strength", 0.0, "spreads a share of the target over all answers", "Szegedy et al. 2016"),
    "weight decay": Regularizer(
        "optim.weight_decay", 0.0, "shrinks matrices a little each step, apart from the gradient",
        "Loshchilov & Hutter 2019"),
    "gradient clipping": Regularizer(
        "optim.max_grad_norm", inf, "cuts the gradient's global norm down", "Pascanu et al. 2013"),
    "early stopping": Regularizer(
        "stopping.patience_evals", inf, "keeps the best parameters once a split has stopped improving",
        "Prechelt 1998"),
    "layer norm": Regularizer(
        "model.norm", None, "normalizes before (pre) or behind (post) each sublayer: structure",
        "Ba et al. 2016; Xiong et al. 2020"),
    "residual connections": Regularizer(
        "model.residual", None, "adds a sublayer's input to its output: structure", "He et al. 2016"),
}
"""Name -> regularizer."""

def _draw_catsat(**settings: int | float) -> object:
    return splits.draw_splits(splits.Settings(seed=0, **settings))  # whether there is room does not depend on the seed


DATASETS: Mapping[str, DatasetEntry] = {
    "catsat": DatasetEntry(
        "choose the verb's form from a noun and a determiner: the cat SIT on the mat -> sits",
        splits=catsat.SPLITS, views=catsat.VIEWS, check=_draw_catsat),
}
"""Name -> data set; the loaders of the same names are `jaxreg.data.DATASETS`."""
