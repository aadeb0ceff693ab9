"""A training code of plain JAX that compiles in no time: one hidden layer with dropout."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.audit.subject import Subject


def subject(dropout_in_evaluation: bool = False, rate: float = 0.25) -> Subject:
    """It fits a number to 4 numbers."""

    def init(key):
        return {"hidden": jax.random.normal(key, (4, 8)), "out": jnp.ones(8)}

    def loss(state, batch, key, train):
        x = jax.nn.relu(batch["x"] @ state["hidden"])
        if train or dropout_in_evaluation:
            kept = jax.random.bernoulli(key, 1 - rate, x.shape)
            x = jnp.where(kept, x / (1 - rate), 0)
        return (x @ state["out"] - batch["y"]) ** 2

    def batch(seed, size):
        draw = np.random.default_rng(seed)
        x = draw.normal(size=(size, 4)).astype(np.float32)
        return {"x": x, "y": x.sum(1)}

    return Subject(init, loss, batch, name="tiny", inputs=lambda batch: batch["x"])


def get_subject() -> Subject:
    """The subject of this file."""
    return subject()
