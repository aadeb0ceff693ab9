"""Ready subjects: of a Flax Linen module, of an NNX module, and of a Flax `TrainState`.

    audit.linen(MyModule(dropout_rate=0.1), batch, causal=True)
    audit.nnx(lambda rngs: MyModel(rngs=rngs), batch)
    audit.train_state(state, batch)

`batch(seed, size)` returns a dict with `inputs` and `labels`, or the pair of them. The loss is the
cross-entropy of integer labels, the mean of each example; labels below 0 are ignored.
"""

import dataclasses
import inspect
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg.audit import nnx_steps
from jaxreg.audit.subject import Batch, Ours, State, Subject
from jaxreg.errors import UserErrors

Loss = Callable[[Any, Batch], jax.Array]
"""(logits, batch) -> losses [B]."""
Arguments = Callable[[Batch], Sequence]
"""Batch -> the positional arguments of the module."""

TRAIN_ARGUMENTS = ("train", "training", "is_training", "deterministic")
"""Names of an argument that says whether a module trains; the last one says that it does not."""


class TrainingState(NamedTuple):
    """The state of `linen` and `nnx`.

    Attributes:
      params: the parameters.
      others: batch statistics and other variables.
      opt_state: the optimizer's.
      step: how many steps were taken.
    """

    params: Any
    others: Any
    opt_state: Any
    step: Any


def cross_entropy(logits: jax.Array, batch: Batch) -> jax.Array:
    """Losses [B] of logits [B, ..., V] against `labels` [B, ...]; labels below 0 are ignored."""
    labels = jnp.asarray(_part(batch, "labels"))
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), jnp.maximum(labels, 0)
    )
    counted, axes = labels >= 0, tuple(range(1, labels.ndim))
    return (losses * counted).sum(axes) / jnp.maximum(counted.sum(axes), 1)


def _with_checked_pad(fields: Mapping[str, Any], loss: Loss) -> dict[str, Any]:
    """The fields of a subject, with a `pad` that refuses labels which the loss would count.

    Raises:
      UserErrors: when it is called, where the loss is `cross_entropy` and padded labels are ids.
    """
    pad = fields.get("pad")
    if pad is None or loss is not cross_entropy:
        return dict(fields)

    def checked(batch: Batch, n: int) -> Batch:
        padded = pad(batch, n)
        own, labels = (np.asarray(_part(each, "labels")) for each in (batch, padded))
        if own.ndim > 1 and (added := labels[:, own.shape[1] :]).size and (added >= 0).any():
            raise UserErrors(
                [
                    f"`pad` adds the labels {sorted({*added.ravel().tolist()})}, which the loss"
                    " counts: it leaves out labels below 0 only. Pad labels with -1; or pass"
                    " loss=(logits, batch) -> losses [B] that leaves out yours"
                ]
            )
        return padded

    return {**fields, "pad": checked}


def linen(
    module: Any,
    batch: Callable[[int, int], Batch],
    *,
    loss: Loss = cross_entropy,
    optimizer: optax.GradientTransformation | None = None,
    arguments: Arguments | None = None,
    rngs: Sequence[str] = ("dropout",),
    train_argument: str | None = None,
    knobs: Mapping[str, Callable[[float], Any]] | None = None,
    **fields: Any,
) -> Subject:
    """The subject of a Flax Linen module.

    Args:
      module: the module; its argument `train`, `training`, `is_training` or `deterministic` says
        whether it trains.
      batch: (seed, size) -> dict with `inputs` and `labels`, or the pair; numpy.
      loss: (logits, batch) -> losses [B]; default: the mean cross-entropy of each row's integer
        labels, of which those below 0 are left out.
      optimizer: without one there are no steps.
      arguments: batch -> positional arguments of the module; default: the inputs alone.
      rngs: streams of random numbers that get a key in training.
      train_argument: the argument's name, where it is another one.
      knobs: name -> (strength -> module); default: each number among the module's fields whose name
        has "drop" in it or ends in "rate".
      **fields: further fields of `Subject`, such as `causal` or `pad`.

    Example:
      >>> import numpy as np, optax
      >>> from flax import linen as nn
      >>> from jaxreg import audit
      >>> class Model(nn.Module):
      ...     rate: float = 0.1
      ...     @nn.compact
      ...     def __call__(self, tokens, train=False):
      ...         x = nn.Embed(50, 8)(tokens)
      ...         return nn.Dense(50)(nn.Dropout(self.rate)(x, deterministic=not train))
      ...
      >>> def batch(seed, size):
      ...     tokens = np.random.default_rng(seed).integers(0, 50, (size, 5))
      ...     return {"inputs": tokens[:, :-1], "labels": tokens[:, 1:]}
      ...
      >>> subject = audit.linen(Model(), batch, optimizer=optax.sgd(0.1))
      >>> sorted(subject.knobs), subject.step is not None
      (['rate'], True)
    """
    _refuse_steps("linen", fields)
    arguments = arguments or _inputs_alone
    flag = train_argument or _train_argument(type(module).__call__)
    if knobs is None:
        knobs = {name: lambda x, n=name: module.clone(**{n: x}) for name in _rates(module)}

    def init(key):
        keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(("params", *rngs))}
        given = arguments(jax.tree.map(jnp.asarray, batch(0, 2)))
        variables = dict(module.init(keys, *given, **_mode(flag, False)))
        params = variables.pop("params", {})
        opt_state = None if optimizer is None else optimizer.init(params)
        return TrainingState(params, variables, opt_state, jnp.zeros((), jnp.int32))

    def forward(params, others, data, key, train):
        return _apply(module.apply, params, others, arguments(data), _keys(rngs, key), flag, train)

    parts = _Parts(init, forward, batch, loss, optimizer)
    again = {
        name: lambda strength, make=make: linen(
            make(strength),
            batch,
            loss=loss,
            optimizer=optimizer,
            arguments=arguments,
            rngs=rngs,
            train_argument=train_argument,
            knobs={},
            **fields,
        )
        for name, make in knobs.items()
    }
    return parts.subject(again, _with_checked_pad(fields, loss), type(module).__name__)


def nnx(
    make: Any,
    batch: Callable[[int, int], Batch],
    *,
    loss: Loss = cross_entropy,
    optimizer: nnx_steps.Optimizer = None,
    train_step: Callable[[Any, Any, Batch], Any] | None = None,
    eval_step: Callable[[Any, Batch], Any] | None = None,
    arguments: Arguments | None = None,
    train_argument: str | None = None,
    knobs: Mapping[str, Callable[[float], Any]] | None = None,
    **fields: Any,
) -> Subject:
    """The subject of a Flax NNX module, by `nnx.split` and `nnx.merge`.

    In the loss every random stream of the module gets its own key, made of the key of the call.
    Without an argument that says whether it trains, `module.train()` and `module.eval()` say so.

    Args:
      make: nnx.Rngs -> module; or a module, which is then the state for every key.
      batch, loss, arguments, train_argument, **fields: as in `linen`.
      optimizer: one of optax; with a `train_step` also model -> `nnx.Optimizer`. Without one there
        are no steps.
      train_step: your own (model, optimizer, batch) -> anything, with `nnx.jit` or without. It is
        given copies in training mode, and the optimizer is an `nnx.Optimizer`. The streams stay
        those of the model, from step to step; `make` gets a stream "dropout" beside the default.
        An argument `rngs` gets streams that are not the model's, `key` or `rng` a key of the call.
      eval_step: your own (model, batch) -> losses [B], or their mean, alone or first in a tuple. It
        is given the model in training mode, so it calls `model.eval()` as your code does.
      knobs: name -> (strength -> another `make`); default: none.

    Raises:
      UserErrors: `train_step` or `eval_step` take something else, or there is no optimizer.

    Example:
      >>> import numpy as np, optax
      >>> from flax import nnx
      >>> from jaxreg import audit
      >>> class Model(nnx.Module):
      ...     def __init__(self, rngs):
      ...         self.embed = nnx.Embed(50, 8, rngs=rngs)
      ...         self.dropout = nnx.Dropout(0.1, rngs=rngs)
      ...         self.out = nnx.Linear(8, 50, rngs=rngs)
      ...     def __call__(self, tokens):
      ...         return self.out(self.dropout(self.embed(tokens)))
      ...
      >>> def batch(seed, size):
      ...     tokens = np.random.default_rng(seed).integers(0, 50, (size, 5))
      ...     return {"inputs": tokens[:, :-1], "labels": tokens[:, 1:]}
      ...
      >>> def mean_loss(model, batch):
      ...     logits, labels = model(batch["inputs"]), batch["labels"]
      ...     return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
      ...
      >>> @nnx.jit
      ... def train_step(model, optimizer, batch):
      ...     loss, gradients = nnx.value_and_grad(mean_loss)(model, batch)
      ...     optimizer.update(model, gradients)
      ...     return loss
      ...
      >>> subject = audit.nnx(Model, batch, optimizer=optax.sgd(0.1), train_step=train_step)
      >>> audit.run(subject, ["steps_differ"])[0].status
      'ok'
    """
    _refuse_steps("nnx", fields)
    nnx_steps.refuse_wrong(optimizer, train_step=train_step, eval_step=eval_step)
    options = {
        "loss": loss,
        "optimizer": optimizer,
        "train_step": train_step,
        "eval_step": eval_step,
        "arguments": arguments,
        "train_argument": train_argument,
    }
    again = {
        name: lambda strength, at=at: nnx(at(strength), batch, **options, **fields)
        for name, at in (knobs or {}).items()
    }
    model = _Nnx(make, optimizer, train_step, arguments or _inputs_alone, train_argument)
    parts = _Parts(
        model.init,
        model.forward,
        batch,
        loss,
        None if train_step else optimizer,  # pyright: ignore[reportArgumentType]
    )
    own: dict[str, Any] = {}
    if train_step is not None:
        training = nnx_steps.OwnTraining(train_step, model.structure, model.flag is None)
        own |= {"step": training.step, "update": training.update}
        if eval_step is not None and model.flag is None:
            own["step_after_evaluation"] = partial(training.step_after_evaluation, eval_step)
    if eval_step is not None:
        own["loss"] = model.with_eval_step(eval_step, parts)
    return parts.subject(again, own | _with_checked_pad(fields, loss), model.name)


class _Nnx:
    """An NNX module, alone or with its optimizer, as functions of a `TrainingState`.

    Args:
      make, optimizer, train_step, arguments, train_argument: as in `nnx`.
    """

    def __init__(self, make, optimizer, train_step, arguments, train_argument):
        from flax import nnx as flax_nnx

        self._nnx, self._make, self._optimizer = flax_nnx, make, optimizer
        self._train_step, self._arguments = train_step, arguments
        example = self._node(jax.random.key(0))
        module = self._module(example)
        self.structure = flax_nnx.split(example, flax_nnx.Param, ...)[0]
        self.flag = train_argument or _train_argument(type(module).__call__)
        self._takes_rngs = "rngs" in inspect.signature(type(module).__call__).parameters
        self.name = type(module).__name__

    def _node(self, key: jax.Array) -> Any:
        """What is split into a state: the module, with the optimizer where the step is theirs."""
        make = self._make
        if not isinstance(make, self._nnx.Module):
            is_own = self._train_step is not None
            made = nnx_steps.training_rngs(key) if is_own else self._nnx.Rngs(key)
            make = make(made)
        if self._train_step is None:
            return make
        return nnx_steps.training_node(make, self._optimizer, self._train_step, key)

    def _module(self, node: Any) -> Any:
        return node if self._train_step is None else node[nnx_steps.MODEL]

    def init(self, key: jax.Array) -> TrainingState:
        """The state at initialization."""
        _, params, others = self._nnx.split(self._node(key), self._nnx.Param, ...)
        if self._train_step is not None:
            return TrainingState(params, others, None, None)
        opt_state = None if self._optimizer is None else self._optimizer.init(params)
        return TrainingState(params, others, opt_state, jnp.zeros((), jnp.int32))

    def merged(self, params: Any, others: Any, key: jax.Array) -> Any:
        """A copy whose random streams begin with keys made of `key`."""
        return self._nnx.merge(self.structure, params, _with_keys(self._nnx, others, key))

    def forward(self, params, others, data, key, train) -> tuple[Any, Any]:
        """(logits, other variables)."""
        node = self.merged(params, others, key)
        module = self._module(node)
        if self.flag is None:
            module.train() if train else module.eval()
        rngs = {"rngs": nnx_steps.training_rngs(key)} if self._takes_rngs else {}
        logits = module(*self._arguments(data), **_mode(self.flag, train), **rngs)
        return logits, self._nnx.split(node, self._nnx.Param, ...)[2]

    def with_eval_step(self, eval_step: Callable, parts: "_Parts") -> Callable[..., Any]:
        """The loss with the person's evaluation; where that is a mean, training's is one, too."""

        def of_evaluation(state, data, key):
            module = self._module(self._copied(state, key))
            if self.flag is None:
                module.train()  # as a training step leaves it
            return nnx_steps.evaluated(eval_step, module, data)

        def losses(state, data, key, train):
            if not train:
                return of_evaluation(state, data, key)
            found = parts.losses(state, data, key, True)
            return found.mean() if is_mean(state, data, key) else found

        def is_mean(state, data, key):
            if not forms:
                forms.append(jnp.shape(of_evaluation(state, data, key)))
            return forms[0] == ()

        forms: list[tuple[int, ...]] = []
        return losses

    def _copied(self, state: TrainingState, key: jax.Array) -> Any:
        """`merged`, whose parameters are variables of its own, too."""
        others = _with_keys(self._nnx, state.others, key)
        return self._nnx.merge(self.structure, state.params, others, copy=True)


def train_state(
    state: Any,
    batch: Callable[[int, int], Batch],
    *,
    loss: Loss = cross_entropy,
    arguments: Arguments | None = None,
    rngs: Sequence[str] = ("dropout",),
    train_argument: str | None = None,
    knobs: Mapping[str, Callable[[float], Any]] | None = None,
    **fields: Any,
) -> Subject:
    """The subject of a Flax `TrainState`, with its `apply_fn`, its optimizer and its variables.

    Args:
      state: a `TrainState`, or key -> `TrainState`, which is the subject's state: what a `step` of
        your own takes and returns; a field `batch_stats` is kept up to date.
      batch, loss, arguments, rngs, train_argument, **fields: as in `linen`.
      knobs: name -> (strength -> another `state`); default: none. With a function
        `create_state(key, model)`: {"rate": lambda rate: lambda key: create_state(key,
        Model(rate))}.

    Example:
      >>> import jax, numpy as np, optax
      >>> from flax import linen as nn
      >>> from jaxreg import audit
      >>> class Model(nn.Module):
      ...     rate: float = 0.1
      ...     @nn.compact
      ...     def __call__(self, tokens, train=False):
      ...         x = nn.Embed(50, 8)(tokens)
      ...         return nn.Dense(50)(nn.Dropout(self.rate)(x, deterministic=not train))
      ...
      >>> def batch(seed, size):
      ...     tokens = np.random.default_rng(seed).integers(0, 50, (size, 5))
      ...     return {"inputs": tokens[:, :-1], "labels": tokens[:, 1:]}
      ...
      >>> from flax.training.train_state import TrainState
      >>> params = Model().init(jax.random.key(0), batch(0, 2)["inputs"])["params"]
      >>> state = TrainState.create(apply_fn=Model().apply, params=params, tx=optax.adam(1e-3))
      >>> audit.train_state(state, batch, causal=True).causal
      True
    """
    arguments = arguments or _inputs_alone
    example = state if hasattr(state, "apply_fn") else state(jax.random.key(0))
    module = getattr(example.apply_fn, "__self__", None)
    called = example.apply_fn if module is None else type(module).__call__
    flag = train_argument or _train_argument(called)

    def init(key):
        return state if hasattr(state, "apply_fn") else state(key)

    def forward(params, others, data, key, train):
        keys = _keys(rngs, key)
        return _apply(example.apply_fn, params, others, arguments(data), keys, flag, train)

    def others_of(state):
        return {"batch_stats": state.batch_stats} if hasattr(state, "batch_stats") else {}

    def logits(state, data, key, train):
        return forward(state.params, others_of(state), data, key, train)[0]

    def step(state, data, key):
        def mean(params):
            out, others = forward(params, others_of(state), data, key, True)
            return loss(out, data).mean(), others

        gradients, others = jax.grad(mean, has_aux=True)(state.params)
        return state.apply_gradients(grads=gradients, **others)

    defaults = {
        "init": init,
        "loss": lambda state, data, key, train: loss(logits(state, data, key, train), data),
        "batch": batch,
        "logits": logits,
        "step": Ours(step),
        "update": lambda state, gradients: state.apply_gradients(grads=gradients),
        "inputs": lambda data: _part(data, "inputs"),
        "with_inputs": _with_inputs,
        "params": lambda state: state.params,
        "with_params": lambda state, params: state.replace(params=params),
        "padding": "mask" if fields.get("pad") else None,
        "name": type(module).__name__ if module is not None else "TrainState",
        "knobs": {
            name: lambda strength, at=at: train_state(
                at(strength),
                batch,
                loss=loss,
                arguments=arguments,
                rngs=rngs,
                train_argument=train_argument,
                **fields,
            )
            for name, at in (knobs or {}).items()
        },
    }
    return Subject(**defaults | _with_checked_pad(fields, loss))


@dataclasses.dataclass(frozen=True)
class _Parts:
    """What `linen` and `nnx` make a subject of.

    Attributes:
      init: key -> `TrainingState`.
      forward: (params, others, batch, key, train) -> (logits, others).
      batch, loss, optimizer: as in `linen`.
    """

    init: Callable[[jax.Array], TrainingState]
    forward: Callable[..., tuple[Any, Any]]
    batch: Callable[[int, int], Batch]
    loss: Loss
    optimizer: optax.GradientTransformation | None

    def logits(self, state: TrainingState, batch: Batch, key: jax.Array, train: bool) -> Any:
        """What the module returns."""
        return self.forward(state.params, state.others, batch, key, train)[0]

    def losses(self, state: TrainingState, batch: Batch, key: jax.Array, train: bool) -> jax.Array:
        """Losses [B]."""
        return self.loss(self.logits(state, batch, key, train), batch)

    def step(self, state: TrainingState, batch: Batch, key: jax.Array) -> TrainingState:
        """The state after one step of the optimizer on the mean loss."""

        def mean(params):
            logits, others = self.forward(params, state.others, batch, key, True)
            return self.loss(logits, batch).mean(), others

        gradients, others = jax.grad(mean, has_aux=True)(state.params)
        return self.update(state, gradients)._replace(others=others)

    def update(self, state: TrainingState, gradients: Any) -> TrainingState:
        """The state after the optimizer's step for these gradients."""
        assert self.optimizer is not None  # else the subject has no step
        updates, opt_state = self.optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainingState(params, state.others, opt_state, state.step + 1)

    def subject(self, knobs: Mapping, fields: Mapping[str, Any], name: str) -> Subject:
        """The subject; `fields` go before what is found here."""
        defaults = {
            "init": self.init,
            "loss": self.losses,
            "batch": self.batch,
            "logits": self.logits,
            "step": None if self.optimizer is None else Ours(self.step),
            "update": None if self.optimizer is None else self.update,
            "inputs": lambda data: _part(data, "inputs"),
            "with_inputs": _with_inputs,
            "params": lambda state: state.params,
            "with_params": lambda state, params: state._replace(params=params),
            "padding": "mask" if fields.get("pad") else None,
            "knobs": knobs,
            "name": name,
        }
        return Subject(**defaults | dict(fields))


def _refuse_steps(name: str, fields: Mapping[str, Any]) -> None:
    """Raises UserErrors for a step of the person's, which knows nothing of `TrainingState`."""
    use = {
        "linen": "audit.train_state(create_state, batch, step=...)",
        "nnx": "audit.nnx(make, batch, optimizer=..., train_step=...)",
    }[name]
    given = [each for each in ("step", "update", "accumulate") if each in fields]
    if given:
        raise UserErrors(
            [
                f"audit.{name}: {' and '.join(f'`{each}`' for each in given)} of yours would be"
                f" given the state that audit.{name} makes; audit yours by {use}"
            ]
        )


def _apply(apply: Callable, params, others, arguments, keys, flag, train) -> tuple[Any, Any]:
    """(logits, other variables) of Linen's `apply`; in evaluation the variables stay."""
    variables = {"params": params, **others}
    mode = _mode(flag, train)
    if not (train and others):
        return apply(variables, *arguments, rngs=keys, **mode), others
    logits, changed = apply(variables, *arguments, rngs=keys, mutable=list(others), **mode)
    return logits, {**others, **changed}


def _keys(rngs: Sequence[str], key: jax.Array) -> dict[str, jax.Array]:
    """Stream -> key, in evaluation too: what is drawn there is then seen."""
    return {name: jax.random.fold_in(key, i) for i, name in enumerate(rngs)}


def _with_keys(flax_nnx: Any, others: State, key: jax.Array) -> State:
    """The variables with every random stream started anew, each by a key of its own."""
    found = []
    for path, variable in flax_nnx.to_flat_state(others):
        if isinstance(variable, flax_nnx.RngKey):
            number = zlib.crc32(repr(path).encode())  # the path's: there may be streams more
            shape, own = variable.get_value().shape, jax.random.fold_in(key, number)
            variable = variable.replace(jax.random.split(own, shape) if shape else own)
        elif isinstance(variable, flax_nnx.RngCount):
            variable = variable.replace(jnp.zeros_like(variable.get_value()))
        else:  # a variable of its own, which may be changed inside a gradient
            variable = variable.replace(variable.get_value())
        found.append((path, variable))
    return flax_nnx.from_flat_state(found)


def _train_argument(function: Callable) -> str | None:
    names = inspect.signature(function).parameters
    return next((name for name in TRAIN_ARGUMENTS if name in names), None)


def _mode(flag: str | None, train: bool) -> dict[str, bool]:
    if flag is None:
        return {}
    return {flag: not train if flag == "deterministic" else train}


def _rates(module: Any) -> list[str]:
    names = [field.name for field in dataclasses.fields(module)]
    return [
        name
        for name in names
        if isinstance(getattr(module, name, None), float)
        and ("drop" in name or name.endswith("rate"))
    ]


def _inputs_alone(batch: Batch) -> tuple:
    return (_part(batch, "inputs"),)


def _part(batch: Batch, name: str) -> Any:
    if isinstance(batch, Mapping):
        if name not in batch:
            raise UserErrors(
                [
                    f"the batch has {', '.join(map(str, batch))}, and no `{name}`: the audit reads"
                    " `inputs` and `labels`. Call them so in `batch`, and rename them for your step"
                    " in a wrapper around it"
                ]
            )
        return batch[name]
    return batch[("inputs", "labels").index(name)]


def _with_inputs(batch: Batch, inputs: Any) -> Batch:
    if isinstance(batch, Mapping):
        return {**batch, "inputs": inputs}
    return (inputs, *batch[1:])
