"""What is audited: the functions of a training code, as a person hands them over."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax

State = Any
"""Parameters, optimizer state and whatever else training carries: a pytree."""
Batch = Any
"""What the functions take as data: a pytree of arrays, examples along the first axis."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """The functions of a training code. Only `init`, `loss` and `batch` are needed.

    A check that needs a function that is missing is not applicable, and says what it would need.

    Attributes:
      init: key -> state.
      loss: (state, batch, key, train) -> losses [B] of the examples, or their mean, for which fewer
        checks apply. `train` is a Python bool.
      batch: (seed, size) -> a batch of that many examples, numpy; equal arguments, equal batches.
      step: (state, batch, key) -> the state after one training step; or a tuple of it and anything
        else, such as (state, loss).
      update: (state, gradients) -> the state after one step of the optimizer with these gradients,
        a tree like `params`, in place of the loss's; for the checks of decay, clips and schedules.
      accumulate: (state, batch, key, parts) -> the state after one training step for which the
        gradients of `parts` equal parts of the batch are summed or averaged.
      learning_rate: step -> the learning rate that the step is meant to have; 0 is the first step.
      num_steps: how many steps a whole training run has.
      logits: (state, batch, key, train) -> [B, ...]; [B, T, ...] where positions have logits.
      inputs: the leaf of a batch that holds the tokens [B, T], as batch -> array, with
        `with_inputs`: (batch, array) -> batch; for the checks of masks.
      params: state -> the parameters in it, with `with_params`: (state, params) -> state. None:
        the state's attribute or item `params` where it has one, else the state itself.
      knobs: name -> (strength -> Subject): the same code at another strength of a regularizer.
      off_values: name -> the strength at which a knob does nothing; 0 where it is not named.
      causal: whether position t may depend on positions up to t only.
      padding: "mask" where the batch marks its padding, by the function `pad`; None: no padding.
      pad: (batch, n) -> the batch with n more positions of padding at the end of every row.
      attention: the attention function of the model, of query [B, T, H, K], key and value [B, S, H,
        K], as Flax's `attention_fn`; for the family attention, which is the conformance suite.
      save, restore: (state, path) -> None and (path, like) -> state. None: Orbax.
      step_after_evaluation: as `step`, in a model that was evaluated just before; `audit.nnx` makes
        it where the functions change the model in place.
      name: names the subject in tables.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np
      >>> from jaxreg import audit
      >>> def batch(seed, size):
      ...     return np.random.default_rng(seed).normal(size=(size, 3)).astype(np.float32)
      ...
      >>> def loss(weights, batch, key, train):
      ...     return (batch @ weights) ** 2
      ...
      >>> subject = audit.Subject(lambda key: jax.random.normal(key, (3,)), loss, batch)
      >>> first, *others = audit.run(subject, ["key_repeats", "decay"])
      >>> first.status, {each.status for each in others}  # there is no step
      ('ok', {'not applicable'})
    """

    init: Callable[[jax.Array], State]
    loss: Callable[[State, Batch, jax.Array, bool], jax.Array]
    batch: Callable[[int, int], Batch]
    step: Callable[[State, Batch, jax.Array], State] | None = None
    update: Callable[[State, Any], State] | None = None
    accumulate: Callable[[State, Batch, jax.Array, int], State] | None = None
    learning_rate: Callable[[int], Any] | None = None
    num_steps: int | None = None
    logits: Callable[[State, Batch, jax.Array, bool], jax.Array] | None = None
    inputs: Callable[[Batch], Any] | None = None
    with_inputs: Callable[[Batch, Any], Batch] | None = None
    params: Callable[[State], Any] | None = None
    with_params: Callable[[State, Any], State] | None = None
    knobs: Mapping[str, Callable[[float], "Subject"]] = dataclasses.field(default_factory=dict)
    off_values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    causal: bool = False
    padding: Literal["mask"] | None = None
    pad: Callable[[Batch, int], Batch] | None = None
    attention: Callable[..., Any] | None = None
    save: Callable[[State, Any], None] | None = None
    restore: Callable[[Any, State], State] | None = None
    step_after_evaluation: Callable[[State, Batch, jax.Array], State] | None = None
    name: str = "subject"


def accessors(subject: Subject) -> tuple[Callable[[State], Any], Callable[[State, Any], State]]:
    """(params, with_params) of a subject, found by the state's form where it does not give them."""
    return subject.params or _params, subject.with_params or _with_params


@dataclasses.dataclass(frozen=True)
class Ours:
    """A step that jaxreg makes of a person's optimizer, where they give no step of their own."""

    function: Callable[[State, Batch, jax.Array], State]

    def __call__(self, state: State, batch: Batch, key: jax.Array) -> State:
        """The state after the step."""
        return self.function(state, batch, key)


@dataclasses.dataclass(frozen=True)
class StateOf:
    """A step whose result is the state alone: `function` may return (state, anything).

    Which of the two it returns is told by the form of the parameters, so it is never in doubt.

    Attributes:
      function: (state, batch, key, ...) -> the state, or a tuple that begins with it.
      params: state -> the parameters in it.
    """

    function: Callable[..., Any]
    params: Callable[[State], Any]

    def __call__(self, state: State, *arguments: Any) -> Any:
        """The state after the step; the whole result where no state is found in it."""
        result = self.function(state, *arguments)
        if type(result) in (tuple, list) and result and not self.is_state(result, state):
            return result[0] if self.is_state(result[0], state) else result
        return result

    def is_state(self, result: Any, state: State) -> bool:
        """Whether `result` holds parameters of the form of those in `state`."""
        try:
            forms = [jax.tree.structure(self.params(each)) for each in (result, state)]
        except Exception:  # the person's own accessor, on what is no state
            return False
        return forms[0] == forms[1]


def _params(state: State) -> Any:
    if isinstance(state, Mapping):
        return state["params"] if "params" in state else state
    return getattr(state, "params", state)


def _with_params(state: State, params: Any) -> State:
    if isinstance(state, Mapping):
        return type(state)({**state, "params": params}) if "params" in state else params  # pyright: ignore[reportCallIssue]
    if not hasattr(state, "params"):
        return params
    if hasattr(state, "_replace"):  # a named tuple
        return state._replace(params=params)
    return dataclasses.replace(state, params=params)
