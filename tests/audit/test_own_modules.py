"""The audit of jaxreg's own transformer, its dropout and its optimizer chain: nothing fails."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxreg.nn.nnx
from jaxreg import AttentionDropout, audit, optim
from jaxreg.nn import (
    AttentionOptions,
    BlockDropout,
    BlockOptions,
    MlpDropout,
    Transformer,
    TransformerDropout,
    TransformerOptions,
)

VOCABULARY, LENGTH = 20, 8
SIZES = {"num_layers": 2, "width": 16, "num_heads": 2, "mlp_width": 32, "max_length": 2 * LENGTH}
OPTIONS = TransformerOptions(block=BlockOptions(attention=AttentionOptions(causal=True)))
REAL_SIZE = TransformerOptions(
    "rotary",
    block=BlockOptions(
        norm_kind="rms", attention=AttentionOptions(causal=True, num_kv_heads=1), mlp_kind="swiglu"
    ),
    tie_embeddings=True,
    use_bias=False,
    scan_layers=True,
    remat="block",
)


def batch(seed, size):
    tokens = np.random.default_rng(seed).integers(0, VOCABULARY, (size, LENGTH + 1))
    return {"inputs": tokens[:, :-1], "labels": tokens[:, 1:]}


def dropout(attention_rate=0.2, mlp_rate=0.1, residual_rate=0.1):
    return TransformerDropout(
        BlockDropout(
            AttentionDropout(attention_rate), MlpDropout(mlp_rate), residual_rate=residual_rate
        )
    )


def model(drops, options=OPTIONS):
    return Transformer(VOCABULARY, VOCABULARY, dropout=drops, options=options, **SIZES)


class Holding(nnx.Module):
    """The NNX transformer with its random streams, which it takes by the call."""

    def __init__(self, drops, rngs, options=OPTIONS):
        self.rngs = rngs
        self.transformer = jaxreg.nn.nnx.Transformer(
            VOCABULARY, VOCABULARY, dropout=drops, options=options, **SIZES, rngs=rngs
        )

    def __call__(self, tokens, *, train):
        return self.transformer(tokens, train=train, rngs=self.rngs)


def nnx_model(drops, options=OPTIONS):
    return lambda rngs: Holding(drops, rngs, options)


KNOBS = {
    "linen": ("attention_rate", "mlp_rate", "residual_rate"),
    # tests/nn/test_nnx.py holds that the other sites give the numbers of Linen's.
    "nnx": ("attention_rate",),
}


def knobs(make, names):
    return {name: lambda rate, name=name: make(dropout(**{name: rate})) for name in names}


def optimizer() -> optax.GradientTransformation:
    return optim.optimizer(
        learning_rate=1e-3, num_steps=60, warmup_steps=5, weight_decay=0.1, max_grad_norm=1.0
    )


def arrays(data):
    """The tokens as JAX's arrays, which the annotations of shapes ask for."""
    return [jnp.asarray(data["inputs"])]


def subject(api, options=OPTIONS):
    make, ready = {"linen": (model, audit.linen), "nnx": (nnx_model, audit.nnx)}[api]
    make = partial(make, options=options)
    return ready(
        make(dropout()),
        batch,
        optimizer=optimizer(),
        arguments=arrays,
        knobs=knobs(make, KNOBS[api]),
        causal=True,
    )


EXAMINED = ("randomness", "strengths", "train_eval", "masking", "decay", "schedule", "resume")
"""Families of which at least one check must apply, so that nothing passes by being left out."""


@pytest.mark.system
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(OPTIONS, id="usual"),
        # As long as the usual one, which the tier of system tests has no room for twice.
        pytest.param(REAL_SIZE, id="real size", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("api", ["linen", "nnx"])
def test_nothing_fails(api, options):
    findings = audit.run(subject(api, options))
    assert [
        f"{found.check}: {found.detail}" for found in findings if found.status == "FAILED"
    ] == []
    applied = {found.family for found in findings if found.status == "ok"}
    assert applied >= set(EXAMINED)
