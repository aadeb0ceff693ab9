"""Small training codes, each with one fault in its optimizer, its loss or its saved state.

Three models (plain JAX, Linen, NNX) of one kind: a token's embedding and the mean of those up to
it, a norm, a hidden layer with dropout, logits of the next token.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx, struct

from jaxreg.audit.subject import Subject

VOCABULARY, LENGTH, WIDTH = 7, 6, 8
NUM_STEPS, WARMUP_STEPS, PEAK = 40, 8, 0.01


def mean_so_far(x):
    """The mean over positions up to each, [B, T, D]."""
    return jnp.cumsum(x, 1) / jnp.arange(1, x.shape[1] + 1)[:, None]


# --- three models: (init: key -> params, apply: (params, tokens, key or None, rate) -> logits) ---


def plain_model():
    """Nested dicts."""

    def init(key):
        keys = jax.random.split(key, 3)

        def kernel(key, *shape):
            return jax.random.normal(key, shape) / np.sqrt(shape[0])

        return {
            "embed": {"embedding": kernel(keys[0], VOCABULARY, WIDTH)},
            "norm": {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)},
            "hidden": {"kernel": kernel(keys[1], WIDTH, WIDTH), "bias": jnp.zeros(WIDTH)},
            "out": {"kernel": kernel(keys[2], WIDTH, VOCABULARY), "bias": jnp.zeros(VOCABULARY)},
        }

    def apply(params, tokens, key, rate):
        x = params["embed"]["embedding"][tokens]
        x = x + mean_so_far(x)
        x = jax.nn.standardize(x) * params["norm"]["scale"] + params["norm"]["bias"]
        x = jax.nn.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        if key is not None:
            x = jnp.where(jax.random.bernoulli(key, rate, x.shape), 0, x / (1 - rate))
        return x @ params["out"]["kernel"] + params["out"]["bias"]

    return init, apply


class LinenModel(nn.Module):
    """The same in Linen."""

    rate: float

    @nn.compact
    def __call__(self, tokens, train: bool):
        x = nn.Embed(VOCABULARY, WIDTH)(tokens)
        x = nn.LayerNorm()(x + mean_so_far(x))
        x = nn.Dropout(self.rate)(nn.relu(nn.Dense(WIDTH)(x)), deterministic=not train)
        return nn.Dense(VOCABULARY)(x)


def linen_model():
    """A tree of parameters, as `init` gives it."""

    def init(key):
        return LinenModel(0.0).init(key, jnp.zeros((1, LENGTH), int), False)["params"]

    def apply(params, tokens, key, rate):
        rngs = None if key is None else {"dropout": key}
        return LinenModel(rate).apply({"params": params}, tokens, key is not None, rngs=rngs)

    return init, apply


class NnxModel(nnx.Module):
    """The same in NNX."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.hidden = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.out = nnx.Linear(WIDTH, VOCABULARY, rngs=rngs)

    def __call__(self, tokens, key, rate):
        x = self.embed(tokens)
        x = nnx.relu(self.hidden(self.norm(x + mean_so_far(x))))
        if key is not None:
            x = nnx.Dropout(rate, deterministic=False)(x, rngs=nnx.Rngs(dropout=key))
        return self.out(x)


def nnx_model():
    """An `nnx.State` of parameters."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: NnxModel(nnx.Rngs(0))))

    def init(key):
        return nnx.split(NnxModel(nnx.Rngs(params=key)))[1]

    def apply(params, tokens, key, rate):
        return nnx.merge(graph, params)(tokens, key, rate)

    return init, apply


MODELS = {"plain": plain_model, "linen": linen_model, "nnx": nnx_model}


# --- batches ---


def ragged_batch(seed: int, size: int) -> dict[str, np.ndarray]:
    """Tokens [B, T]; labels are the next tokens, and -1 from a row's own end on."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(0, VOCABULARY, (size, LENGTH))
    ends = draw.integers(2, LENGTH + 1, (size, 1))
    labels = np.where(np.arange(LENGTH) < ends, (tokens + 1) % VOCABULARY, -1)
    return {"tokens": tokens, "labels": labels}


def padded(batch, n):
    """`n` more ignored positions a row."""
    return {
        "tokens": np.pad(batch["tokens"], ((0, 0), (0, n))),
        "labels": np.pad(batch["labels"], ((0, 0), (0, n)), constant_values=-1),
    }


# --- the training code, with a place for each fault ---


@struct.dataclass
class State:
    """What training carries; `epoch` is no leaf."""

    params: Any
    moments: Any
    step: Any
    average: Any
    epoch: int = struct.field(pytree_node=False, default=0)


@dataclasses.dataclass(frozen=True)
class Options:
    """Strengths, and the name of the fault."""

    model: str = "plain"
    fault: str | None = None
    dropout_rate: float = 0.2
    label_smoothing: float = 0.0
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0


def rate_of(fault: str | None) -> optax.Schedule:
    """The learning rate that the person means."""
    end = NUM_STEPS // 2 if fault == "schedule_end" else NUM_STEPS
    return optax.warmup_cosine_decay_schedule(
        PEAK / 10, PEAK, WARMUP_STEPS, end, PEAK / 100 if fault != "schedule_end" else 0.0
    )


def last_name(path) -> str:
    """The last word of a leaf's path that is not NNX's own."""
    words = [jax.tree_util.keystr((p,), simple=True) for p in path]
    return [word for word in words if word not in ("value", "raw_value")][-1]


def named_like(word: str):
    """A mask of the leaves of this name."""
    return lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: last_name(path) == word, params
    )


def last_kernel(params):
    """A mask of one kernel, that of the output."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: last_name(path) == "kernel" and path[0].key in ("out", "Dense_1"), params
    )


def each_leaf(norm):
    """A clip of each leaf by its own norm."""
    clip = optax.clip_by_global_norm(norm)
    return optax.stateless(
        lambda g, _: jax.tree.map(lambda x: clip.update(x, optax.EmptyState())[0], g)
    )


def optimizer_of(options: Options, counter: list[int]) -> optax.GradientTransformation:
    """Clip, Adam, decay of the kernels, schedule."""
    fault, meant = options.fault, rate_of(options.fault)
    clip = optax.clip_by_global_norm(options.max_grad_norm)
    strength = options.weight_decay ** (2 if fault == "decay_strength" else 1)
    mask = last_kernel if fault == "decay_kernels" else named_like("kernel")
    decay = optax.add_decayed_weights(strength, None if fault == "decay_spared" else mask)

    def rate(count):
        if fault == "schedule_warmup":
            return jnp.where(count == 0, PEAK, meant(count))
        if fault == "schedule_expected":
            return meant(2 * count)
        if fault == "schedule_in_state":
            counter[0] += 1
            return meant(counter[0])
        return meant(count)

    schedule = optax.scale_by_learning_rate(rate)
    adam = optax.scale_by_adam()
    parts = {
        "schedule_moves": [clip, adam, optax.scale(-1.0), decay, schedule],
        "clip_bounds": [adam, decay, schedule, clip],
        "clip_direction": [each_leaf(options.max_grad_norm), adam, decay, schedule],
        "clip_nonfinite": [clip, adam, clean_updates(), decay, schedule],
        "decay_decoupled": [clip, decay, adam, schedule],
        "decay_schedule": [clip, adam, schedule, optax.add_decayed_weights(-strength * PEAK, mask)],
    }
    return optax.chain(*parts.get(fault or "", [clip, adam, decay, schedule]))


def clean_updates() -> optax.GradientTransformation:
    """NaN becomes 0, when it is in the moments already."""
    return optax.stateless(lambda u, _: jax.tree.map(jnp.nan_to_num, u))


def token_losses(options: Options, apply, params, batch, key, train: bool):
    """Losses [B, T], 0 at ignored positions, and the positions that count."""
    fault, counted = options.fault, batch["labels"] >= 0
    logits = apply(params, batch["tokens"], key if train else None, options.dropout_rate)
    targets = jax.nn.one_hot(batch["labels"], VOCABULARY)
    if train:
        targets = optax.smooth_labels(targets, options.label_smoothing)
    found = optax.softmax_cross_entropy(logits, targets)
    if train and fault == "loss_smoothing":
        return found, counted
    return jnp.where(counted, found, 0), counted


def mean_loss(options: Options, apply, params, batch, key, train: bool, in_step=False):
    """The mean over the tokens that count."""
    losses, counted = token_losses(options, apply, params, batch, key, train)
    if options.fault == "loss_ignored":
        return losses.mean()
    if options.fault == "loss_parts":
        return losses.sum() / 20
    if options.fault == "loss_step_size" and in_step:
        return losses.sum()
    if options.fault == "loss_step_padding" and in_step:
        return losses.mean()
    return losses.sum() / counted.sum()


def make(options: Options) -> Subject:
    """The subject with these options."""
    fault, counter = options.fault, [0]
    init_params, apply = MODELS[options.model]()
    optimizer = optimizer_of(options, counter)

    def init(key):
        params = init_params(key)
        return State(params, optimizer.init(params), jnp.int32(0), params)

    def loss(state, batch, key, train):
        if fault == "resume_masks":
            key = jax.random.fold_in(key, state.epoch)
        return mean_loss(options, apply, state.params, batch, key, train)

    def update(state, gradients):
        updates, moments = optimizer.update(gradients, state.moments, state.params)
        params = optax.apply_updates(state.params, updates)
        average = optax.incremental_update(params, state.average, 0.1)
        return state.replace(params=params, moments=moments, step=state.step + 1, average=average)

    def gradient_of(params, batch, key):
        return jax.grad(lambda p: mean_loss(options, apply, p, batch, key, True, True))(params)

    def step(state, batch, key):
        if fault == "resume_next_step":
            key = jax.random.fold_in(key, state.epoch)
        state = state.replace(epoch=state.epoch + 1)
        return update(state, gradient_of(state.params, batch, key))

    def accumulate(state, batch, key, parts):
        pieces = [jax.tree.map(lambda x, i=i: np.split(x, parts)[i], batch) for i in range(parts)]
        counts = jnp.array([(piece["labels"] >= 0).sum() for piece in pieces])
        weights = counts / counts.sum()
        if fault == "loss_accumulation":
            weights = np.full(parts, 1 / parts)
        found = [gradient_of(state.params, piece, key) for piece in pieces]
        return update(
            state, jax.tree.map(lambda *g: sum(w * x for w, x in zip(weights, g)), *found)
        )

    restore = functools.partial(restored, without="average" if fault == "resume_state" else None)
    knobs: dict[str, Callable[[float], Subject]] = {
        name: lambda value, name=name: make(dataclasses.replace(options, **{name: value}))
        for name in ("dropout_rate", "label_smoothing", "weight_decay", "max_grad_norm")
    }
    return Subject(
        init=init,
        loss=loss,
        batch=ragged_batch,
        step=step,
        update=update,
        accumulate=accumulate,
        # Of that fault the person does not know, and the schedule is not the one meant.
        learning_rate=None if fault == "schedule_warmup" else rate_of(fault),
        num_steps=NUM_STEPS,
        logits=lambda s, b, key, train: apply(
            s.params, b["tokens"], key if train else None, options.dropout_rate
        ),
        inputs=lambda batch: batch["tokens"],
        with_inputs=lambda batch, tokens: {**batch, "tokens": tokens},
        params=lambda state: state.params,
        with_params=lambda state, params: state.replace(params=params),
        knobs=knobs,
        off_values={"max_grad_norm": np.inf},
        causal=True,
        padding="mask",
        pad=padded,
        save=saved if fault == "resume_state" else None,
        restore=restore if fault == "resume_state" else None,
        name=f"{options.model}, {fault or 'clean'}",
    )


def saved(state, path):
    """The leaves as an npz file."""
    np.savez(path, *[np.asarray(leaf) for leaf in jax.tree.leaves(state)])


def restored(path, like, without: str | None):
    """The leaves of that file, but for one field."""
    with np.load(f"{path}.npz") as file:
        leaves = [jnp.asarray(file[name]) for name in file.files]
    state = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return state if without is None else state.replace(**{without: getattr(like, without)})


def faulty(fault: str, model: str) -> Subject:
    """The subject with a fault; each is named as the check that finds it."""
    if fault == "clip_acts":
        return make(Options(model, max_grad_norm=1e4))
    return make(Options(model, fault))


FAULTS = (
    "decay_spared",
    "decay_kernels",
    "decay_decoupled",
    "decay_strength",
    "decay_schedule",
    "clip_bounds",
    "clip_direction",
    "clip_nonfinite",
    "clip_acts",
    "schedule_moves",
    "schedule_warmup",
    "schedule_expected",
    "schedule_end",
    "schedule_in_state",
    "resume_state",
    "resume_next_step",
    "resume_masks",
    "loss_parts",
    "loss_ignored",
    "loss_smoothing",
    "loss_step_size",
    "loss_accumulation",
    "loss_step_padding",
)
