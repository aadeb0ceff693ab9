"""A small clean model in Linen and one in NNX, and versions of them with one planted fault each.

Two pre-norm layers of causal attention and an MLP, width 16, two heads, 8 tokens; dropout on
embeddings, attention weights and both branches of every layer.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxreg.audit import subjects
from jaxreg.audit.subject import Subject

VOCABULARY, LENGTH, WIDTH, HEADS, LAYERS, MOST = 11, 8, 16, 2, 2, 24


def batch(seed: int, size: int) -> dict[str, np.ndarray]:
    """Tokens that are not 0, the next ones as labels, and a mask of 1 in the rows' own lengths."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(1, VOCABULARY, (size, LENGTH + 1)).astype(np.int32)
    return {
        "inputs": tokens[:, :-1],
        "labels": tokens[:, 1:],
        "mask": np.ones((size, LENGTH), np.int32),
    }


def pad(batch: Mapping[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """The batch with n masked positions more: token 0, label -1."""
    fill = {"inputs": 0, "labels": -1, "mask": 0}
    return {
        name: np.concatenate([x, np.full((len(x), n), fill[name], x.dtype)], 1)
        for name, x in batch.items()
    }


def arguments(batch: Mapping[str, Any]) -> tuple:
    """The model's arguments."""
    return batch["inputs"], batch["mask"]


class Attention(nn.Module):
    """Causal attention with a mask of keys and dropout of its weights."""

    rate: float
    faults: frozenset

    @nn.compact
    def __call__(self, x, mask, key, train: bool):
        def part(name):
            return nn.DenseGeneral((HEADS, WIDTH // HEADS), name=name)(x)

        query, keys, value = map(part, ("query", "key", "value"))
        logits = jnp.einsum("bthk,bshk->bhts", query, keys) / np.sqrt(WIDTH // HEADS)
        allowed = jnp.tri(x.shape[1], dtype=bool)
        if "bidirectional" in self.faults:  # no fault
            allowed = jnp.ones_like(allowed)
        if "causal" in self.faults or ("causal_in_training" in self.faults and train):
            allowed = jnp.ones_like(allowed)
        readable = (mask > 0)[:, None, None]
        if "padding" in self.faults or ("padding_in_training" in self.faults and train):
            readable = jnp.ones_like(readable)
        forbidden = -jnp.inf if "empty_rows" in self.faults else -1e9
        weights = nn.softmax(jnp.where(allowed & readable, logits, forbidden))
        if train and self.rate > 0:
            shape = list(weights.shape)
            shape[1] = 1 if "heads_differ" in self.faults else shape[1]
            kept = jax.random.bernoulli(key, 1 - self.rate, shape)
            weights = weights * kept / (1 - self.rate)
        out = jnp.einsum("bhts,bshk->bthk", weights, value)
        return nn.DenseGeneral(WIDTH, axis=(-2, -1), name="out")(out)


def dropout(x, rate: float, key, faults: frozenset):
    """Inverted dropout; with the faults of its kind."""
    if rate == 0:
        return x
    shape = (1, *x.shape[1:]) if "examples_differ" in faults else x.shape
    rate = rate / 2 if "realized_rate" in faults else rate
    kept = jax.random.bernoulli(key, 1 - rate, shape)
    return jnp.where(kept, x if "site_means" in faults else x / (1 - rate), 0)


def split_dropout(x, rate: float, key, faults: frozenset):
    """`dropout`; with the fault of `sharded_jit`, each device of the mesh draws by itself."""
    mesh = jax.sharding.get_abstract_mesh()
    if "sharded_jit" not in faults or mesh.empty or mesh.manual_axes:
        return dropout(x, rate, key, faults)
    spread = jax.sharding.PartitionSpec(*mesh.axis_names)
    none = jax.sharding.PartitionSpec()
    return jax.shard_map(
        lambda x, key: dropout(x, rate, key, faults),
        in_specs=(spread, none),
        out_specs=spread,
        check_vma=False,
    )(x, key)


class LinenModel(nn.Module):
    """Two pre-norm layers; `dropout_rate` at both branches, `attention_rate` on the weights."""

    dropout_rate: float = 0.1
    attention_rate: float = 0.2
    faults: frozenset = frozenset()

    @nn.compact
    def __call__(self, tokens, mask, train: bool):
        faults, rate, rate_of_attention = self.faults, self.dropout_rate, self.attention_rate
        if "knob_off" in faults:
            rate = rate or 0.2
        if "key_matters" in faults:
            rate = rate_of_attention = 0.0
        if "knob_acts" in faults:
            rate_of_attention = 0.1
        drops = train or "evaluation_ignores_key" in faults
        x = nn.Embed(VOCABULARY, WIDTH)(tokens)
        x = x + self.param("positions", nn.initializers.normal(0.02), (MOST, WIDTH))[: x.shape[1]]
        keys = [self.make_rng("dropout") for _ in range(3 * LAYERS)]
        for i in range(LAYERS):
            of_attention, *of_branches = keys[3 * i : 3 * i + 3]
            if "layers_differ" in faults:
                of_branches = keys[1:3]
            if "key_reuse" in faults and i == 0:
                of_attention = of_branches[0]
            attention = Attention(rate_of_attention, faults, name=f"attention_{i}")
            h = attention(nn.LayerNorm()(x), mask, of_attention, train)
            x = x + (split_dropout(h, rate, of_branches[0], faults) if drops else h)
            h = nn.Dense(WIDTH)(nn.gelu(nn.Dense(2 * WIDTH)(nn.LayerNorm()(x))))
            x = x + (split_dropout(h, rate, of_branches[1], faults) if drops else h)
        if "rows_independent" in faults and not train:
            x = x - x.mean(0)
        if "padding_gradients" in faults:
            hidden = (x * (mask == 0)[..., None]).sum(1, keepdims=True)
            x = x + hidden - jax.lax.stop_gradient(hidden)
        return nn.Dense(VOCABULARY)(nn.LayerNorm()(x))


class NNXLayer(nnx.Module):
    """One layer of `NNXModel`."""

    def __init__(self, rate: float, rngs: nnx.Rngs):
        self.norms = nnx.List([nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(
            HEADS, WIDTH, dropout_rate=rate, broadcast_dropout=False, decode=False, rngs=rngs
        )
        self.up = nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(2 * WIDTH, WIDTH, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x, allowed):
        x = x + self.attention(self.norms[0](x), mask=allowed)
        return x + self.dropout(self.down(nnx.gelu(self.up(self.norms[1](x)))))


class NNXModel(nnx.Module):
    """The same model in NNX, of Flax's own modules."""

    def __init__(self, rngs: nnx.Rngs, rate: float = 0.1):
        self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.layers = nnx.List([NNXLayer(rate, rngs) for _ in range(LAYERS)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.out = nnx.Linear(WIDTH, VOCABULARY, rngs=rngs)

    def __call__(self, tokens, mask):
        x = self.embed(tokens)
        allowed = jnp.tri(x.shape[1], dtype=bool) & (mask > 0)[:, None, None]
        for layer in self.layers:
            x = layer(x, allowed)
        return self.out(self.norm(x))


COMMON = {"arguments": arguments, "causal": True, "pad": pad}


def linen_subject(*faults: str, **fields: Any) -> Subject:
    """The Linen model's subject with faults of the model."""
    model = LinenModel(faults=frozenset(faults))
    return subjects.linen(model, batch, **COMMON | fields)


def nnx_subject(**fields: Any) -> Subject:
    """The NNX model's subject; it has no fault."""

    def at(rate: float) -> Callable:
        return lambda rngs: NNXModel(rngs, rate)

    return subjects.nnx(at(0.1), batch, knobs={"dropout_rate": at}, **COMMON | fields)


def unrepeatable() -> Subject:
    """Noise of NumPy's in the training loss."""
    clean, draw = linen_subject(), np.random.default_rng(0)

    def loss(state, batch, key, train):
        return clean.loss(state, batch, key, train) + (train * 0.1 * draw.normal())

    return dataclasses.replace(clean, loss=loss)


def one_key_for_all_steps() -> Subject:
    """A step that makes its own key."""
    clean = linen_subject(optimizer=optax.sgd(0.1))
    step = clean.step
    assert step is not None
    return dataclasses.replace(
        clean, update=None, step=lambda state, batch, key: step(state, batch, jax.random.key(0))
    )


class Counted(nnx.Module):
    """A model that counts its evaluations in a variable of its own."""

    def __init__(self, rngs: nnx.Rngs):
        self.model = NNXModel(rngs)
        self.count = nnx.BatchStat(jnp.zeros(()))


def counts_evaluations() -> Subject:
    """Evaluation changes a variable of the model, which is the state itself."""

    def loss(state, batch, key, train):
        if not train:
            state.count.set_value(state.count.get_value() + 1)
        return clean.loss(clean_state, batch, key, train)

    clean = nnx_subject()
    clean_state = clean.init(jax.random.key(0))
    return Subject(
        init=lambda key: Counted(nnx.Rngs(key)),
        loss=loss,
        batch=batch,
        params=lambda state: clean_state.params,
        with_params=lambda state, params: state,
    )


def smoothed_in_evaluation() -> Subject:
    """A knob of label smoothing that acts in evaluation, too."""

    def at(strength: float, always: bool = True) -> Subject:
        clean = linen_subject(knobs={})
        logits = clean.logits
        assert logits is not None

        def loss(state, batch, key, train):
            found = logits(state, batch, key, train)
            plain, flat = subjects.cross_entropy(found, batch), -nn.log_softmax(found).mean(-1)
            counted = batch["labels"] >= 0
            flat = (flat * counted).sum(1) / jnp.maximum(counted.sum(1), 1)
            return (1 - strength) * plain + strength * flat

        return dataclasses.replace(clean, loss=loss)

    return dataclasses.replace(at(0.0), knobs={"smoothing": at})


def counts_devices() -> Subject:
    """A loss that is larger on a later device."""
    clean = linen_subject()

    def loss(state, batch, key, train):
        losses = clean.loss(state, batch, key, train)
        try:
            return losses * (1 + jax.lax.axis_index("data"))
        except NameError:  # no such axis: one device
            return losses

    return dataclasses.replace(clean, loss=loss)


MODEL_FAULTS = (
    "evaluation_ignores_key",
    "examples_differ",
    "layers_differ",
    "heads_differ",
    "key_reuse",
    "site_means",
    "rows_independent",
    "causal",
    "causal_in_training",
    "padding_gradients",
    "empty_rows",
    "knob_acts",
    "knob_off",
    "realized_rate",
    "sharded_jit",
)
"""Faults of `LinenModel`, each named as the check that finds it."""

FAULTS: dict[str, Callable[[], Subject]] = {
    **{name: functools.partial(linen_subject, name) for name in MODEL_FAULTS},
    # Padding comes after all that a causal model reads.
    "padding": lambda: linen_subject("bidirectional", "padding", causal=False),
    "padding_in_training": lambda: linen_subject(
        "bidirectional", "padding_in_training", causal=False
    ),
    "key_matters": lambda: linen_subject("key_matters", knobs={}),
    "key_repeats": unrepeatable,
    "steps_differ": one_key_for_all_steps,
    "evaluation_keeps_state": counts_evaluations,
    "knob_in_evaluation": smoothed_in_evaluation,
    "mapped": counts_devices,
}
"""Check -> a subject with the one fault that it finds."""
