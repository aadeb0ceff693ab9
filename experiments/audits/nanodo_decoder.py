"""nanodo, a minimal decoder: its model and its optimizer, with the settings of its default config.

Needs:    git clone https://github.com/google-deepmind/nanodo
          git -C nanodo checkout 10aefdeed40a63293daf112b91a5538cd24fa3a4
Command:  PYTHONPATH=nanodo jaxreg audit experiments/audits/nanodo_decoder.py

Its loss is written here as in nanodo/loss.py: that file imports the data pipeline.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from nanodo import model, optimizer

from jaxreg import audit

PACKAGES = ("flax",)
COMMIT = "google-deepmind/nanodo 10aefdee"
NOTES = {
    "key_matters": "By design: nanodo has no dropout.",
    "decay_spared": "The default config excludes nothing: `weight_decay_exclusion_names` is absent,"
    " so the gains of the norms are decayed with everything else. nanodo/optimizer.py offers the"
    " mask; its own default for the names, bias and scale, is never used.",
}
CONFIG = model.DoConfig(D=16, H=2, L=16, N=2, V=20, F=32, fsdp_enabled=False)
SETTINGS = ConfigDict(
    {
        "num_train_steps": 60,
        "peak_learning_rate": 0.0016,
        "init_learning_rate": 0.00016,
        "final_learning_rate": 0.00016,
        "warmup_steps": 10,
        "decay_type": "cosine",
        "weight_decay": 0.1,
        "clip_by_global_norm": None,
        "optimizer": "adamw",
    }
)
"""configs/default.py, with fewer steps."""
OPTIMIZER = optimizer.get_optimizer(SETTINGS)
MODEL = model.TransformerDo(CONFIG)


def batch(seed, size):
    return {"inputs": np.random.default_rng(seed).integers(1, 20, (size, 7))}


def logits(state, data, key, train):
    return MODEL.apply({"params": state["params"]}, jnp.asarray(data["inputs"]))


def loss(state, data, key, train):
    tokens = jnp.asarray(data["inputs"])
    targets = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1)))
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits(state, data, key, train), targets
    )
    return (losses * (targets != 0)).sum(1) / (targets != 0).sum(1)


def init(key):
    params = MODEL.init(key, jnp.ones((1, 7), int))["params"]
    return {"params": params, "opt_state": OPTIMIZER.init(params)}


def update(state, gradients):
    updates, opt_state = OPTIMIZER.update(gradients, state["opt_state"], state["params"])
    return {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}


def step(state, data, key):
    def mean(params):
        return loss({**state, "params": params}, data, key, True).mean()

    return update(state, jax.grad(mean)(state["params"]))


def get_subject():
    schedule = optimizer.get_learning_rate_schedule(SETTINGS)
    return audit.Subject(
        init=init,
        loss=loss,
        batch=batch,
        step=step,
        logits=logits,
        update=update,
        learning_rate=schedule,
        num_steps=60,
        inputs=lambda data: data["inputs"],
        with_inputs=lambda data, inputs: {**data, "inputs": inputs},
        causal=True,
        name="nanodo",
    )


def confirm():
    """The gain of a norm under zero gradients; and the loss under two keys."""
    state = init(jax.random.key(0))
    zeros = jax.tree.map(jnp.zeros_like, state["params"])
    moved = update(update(state, zeros), zeros)["params"]["out_ln"]["scale"][0]
    data = batch(0, 4)
    first, second = (loss(state, data, jax.random.key(i), True) for i in range(2))
    return {
        "decay_spared": "two steps with zero gradients take the gain of the last norm from 1 to"
        f" {float(moved):.6f}",
        "key_matters": f"the loss under two keys is equal: {bool((first == second).all())}",
    }
