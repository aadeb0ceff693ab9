"""A person's own NNX training step, and evaluation, as functions of a state that is a pytree.

NNX code changes its modules in place. The audit calls functions of a state as often as it likes, so
here a state is merged into copies, which the person's function may change, and split again: the
parameters, the optimizer's state, batch statistics, and the keys and counts of random streams.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import optax

from jaxreg.audit import contract
from jaxreg.audit.subject import Batch, State
from jaxreg.errors import UserErrors

MODEL, OPTIMIZER, RNGS = "model", "optimizer", "rngs"
CALLS = {"train_step": ("model", "optimizer", "batch"), "eval_step": ("model", "batch")}
"""A person's NNX function -> what it is called with, by position."""
KEYS = ("key", "rng")
"""Names of an argument of a training step that is given a key, in any place of its own."""
_ABOUT_STREAMS = re.compile("Rng|aliasing|trace level")
"""In Flax's words on modules and streams that a compiled function did not get as an argument."""
_ABOUT_A_DICT = re.compile("slice|'dict' object")
"""In Python's words on a dict that is used as an array."""
Optimizer = optax.GradientTransformation | Callable[[Any], Any] | None
"""One of optax; or model -> `nnx.Optimizer`."""


def refuse_wrong(optimizer: Optimizer, **functions: Callable | None) -> None:
    """Looks at what is given beside the model.

    Args:
      optimizer: as in `audit.nnx`.
      **functions: `train_step` and `eval_step`.

    Raises:
      UserErrors: functions that take something else, one line each; or a step without an optimizer.
    """
    lines = [
        contract.of_arguments(name, function, arguments(name, function))
        for name, function in functions.items()
        if function is not None
    ]
    if functions["train_step"] is not None and optimizer is None:
        lines.append(
            "audit.nnx: `train_step` needs an optimizer; give optimizer=optax.adamw(...), or"
            " optimizer=lambda model: nnx.Optimizer(model, ..., wrt=nnx.Param)"
        )
    if functions["train_step"] is None and _makes_its_own(optimizer):
        lines.append("audit.nnx: without `train_step` the optimizer is one of optax")
    mistakes = [line for line in lines if line is not None]
    if mistakes:
        raise UserErrors(mistakes)


def arguments(name: str, function: Callable) -> tuple[str, ...]:
    """What a person's function is called with, by position.

    A training step may have an argument `rngs`, for an `nnx.Rngs` that is not the model's, and one
    called `key` or `rng`, for a key, wherever they stand among its arguments.
    """
    if name != "train_step":
        return CALLS[name]
    given = list(CALLS[name])
    try:
        own = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # written in C, say
        own = []
    for place, parameter in enumerate(own):
        if parameter in (RNGS, *KEYS):
            given.insert(place, parameter)
    return tuple(given)


def _on_streams(words: tuple[str, ...], said: str) -> str:
    """A hint where Flax complains of streams that a step of these arguments does not take."""
    if RNGS in words or not _ABOUT_STREAMS.search(said):
        return ""
    return "; an nnx.Rngs that is not the model's must be an argument called `rngs`"


def _on_call(words: tuple[str, ...], said: str) -> str:
    """What may help where a person's step or evaluation of these arguments raised this."""
    if _ABOUT_A_DICT.search(said):
        return (
            "; the batch is a dict of `inputs` and `labels`: if yours takes something else, wrap"
            f' it, as lambda {", ".join(words)}: mine({", ".join(words)}["inputs"])'
        )
    return _on_streams(words, said)


def _makes_its_own(optimizer: Optimizer) -> bool:
    return callable(optimizer) and not isinstance(optimizer, optax.GradientTransformation)


def training_node(
    model: Any, optimizer: Optimizer, train_step: Callable, key: jax.Array
) -> dict[str, Any]:
    """The model, its `nnx.Optimizer`, which may share variables, and streams if the step asks."""
    from flax import nnx

    node = {MODEL: model}
    if _makes_its_own(optimizer):
        assert callable(optimizer)
        node[OPTIMIZER] = optimizer(model)
    else:
        assert isinstance(optimizer, optax.GradientTransformation)
        node[OPTIMIZER] = nnx.Optimizer(model, optimizer, wrt=nnx.Param)
    if RNGS in arguments("train_step", train_step):
        node[RNGS] = training_rngs(jax.random.fold_in(key, 2))
    return node


def training_rngs(key: jax.Array) -> Any:
    """`nnx.Rngs` with a stream "dropout" of its own, which a step may split or reseed by name."""
    from flax import nnx

    return nnx.Rngs(key, dropout=jax.random.fold_in(key, 1))


@dataclasses.dataclass(frozen=True)
class OwnTraining:
    """A training step of the person's, for states with the fields `params` and `others`.

    Attributes:
      train_step: (model, optimizer, batch) -> anything, with more arguments as `arguments` finds
        them; it changes model and optimizer in place, or returns new ones.
      structure: of the node that a state is split from.
      sets_mode: whether `model.train()` says that the model trains.
    """

    train_step: Callable[..., Any]
    structure: Any
    sets_mode: bool

    def step(self, state: State, batch: Batch, key: jax.Array) -> State:
        """The state after the person's step; its streams are the state's, `key` only if it asks."""
        node = self._merged(state)
        if self.sets_mode:
            node[MODEL].train()
        return self._stepped(node, state, batch, key)

    def step_after_evaluation(
        self, eval_step: Callable[..., Any], state: State, batch: Batch, key: jax.Array
    ) -> State:
        """The same, with the person's evaluation between `model.train()` and the step."""
        node = self._merged(state)
        node[MODEL].train()
        evaluated(eval_step, node[MODEL], batch)
        return self._stepped(node, state, batch, key)

    def _stepped(self, node: dict, state: State, batch: Batch, key: jax.Array) -> State:
        words = arguments("train_step", self.train_step)
        given = node | dict.fromkeys(KEYS, key) | {"batch": batch}
        with contract.calling("train_step", words, partial(_on_call, words)):
            returned = self.train_step(*(given[word] for word in words))
        return self._split(_with_returned(node, returned), state)

    def update(self, state: State, gradients: Any) -> State:
        """The state after a step of the optimizer for these gradients of the model's parameters."""
        from flax import nnx

        node = self._merged(state)
        model, optimizer, gradients = node[MODEL], node[OPTIMIZER], gradients[MODEL]
        if isinstance(optimizer, nnx.ModelAndOptimizer):
            optimizer.update(gradients)
        else:
            optimizer.update(model, gradients)
        return self._split(node, state)

    def _merged(self, state: State) -> dict[str, Any]:
        """Model and optimizer in variables and arrays of their own: a step may donate them."""
        from flax import nnx

        params, others = jax.tree.map(_copied, (state.params, state.others))
        return nnx.merge(self.structure, params, others, copy=True)

    def _split(self, node: Mapping[str, Any], state: State) -> State:
        from flax import nnx

        nnx.pop(node[MODEL], nnx.Intermediate)
        _, params, others = nnx.split(node, nnx.Param, ...)
        return state._replace(params=params, others=others)


def evaluated(eval_step: Callable[..., Any], model: Any, batch: Batch) -> Any:
    """The losses or their mean that the person's evaluation returns, alone or first in a tuple."""
    words = CALLS["eval_step"]
    with contract.calling("eval_step", words, partial(_on_call, words)):
        found = eval_step(model, batch)
    return found[0] if type(found) in (tuple, list) and found else found


def _copied(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer):
        return jnp.copy(leaf)
    return leaf


def _with_returned(node: Mapping[str, Any], returned: Any) -> dict[str, Any]:
    """The node with a model and an optimizer that a step returns in place of changing them."""
    parts = returned if type(returned) in (tuple, list) else (returned,)
    return {
        name: next((each for each in parts if type(each) is type(own)), own)
        for name, own in node.items()
    }
