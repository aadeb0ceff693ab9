"""Flax's example nlp_seq, a tagger of padded sentences: its model and its loss.

Needs:    git clone https://github.com/google/flax
          git -C flax checkout 18f8f311c275d57f46d95e41b15aa97b454754c0
Command:  PYTHONPATH=flax/examples/nlp_seq jaxreg audit experiments/audits/flax_nlp_seq.py
"""

import jax
import jax.numpy as jnp
import models  # of the example
import numpy as np
import optax

from jaxreg import audit

PACKAGES = ("flax",)
COMMIT = "google/flax 18f8f311, examples/nlp_seq"
CONFIG = models.TransformerConfig(
    vocab_size=20,
    output_vocab_size=5,
    emb_dim=16,
    num_heads=2,
    num_layers=2,
    qkv_dim=16,
    mlp_dim=32,
)
_ATTENDED = (
    "The encoder's attention gets no mask, so that words attend to padding, which is left out of"
    " the loss only. Not documented. The example pads every sentence to one length (`max_length`,"
    " 256), so its own scores do not depend on the batch; a prediction does depend on that length,"
    " and is another one where the model is used with less padding."
)
NOTES = {
    "padding": _ATTENDED,
    "decay_spared": "Documented by optax: `mask: ... None`, all parameters are decayed. The example"
    " (train.py: `optax.adamw(..., weight_decay=1e-1)`) gives no mask, so biases and norms are.",
}


def batch(seed, size):
    draw = np.random.default_rng(seed)
    shape = (size, 7)
    return {"inputs": draw.integers(1, 20, shape), "labels": draw.integers(1, 5, shape)}


def pad(data, n):
    """Padding is 0, in words and in tags."""
    return {name: np.pad(x, ((0, 0), (0, n))) for name, x in data.items()}


def loss(logits, data):
    """The example's: cross-entropy of the tags that are not 0, here of each example."""
    labels = jnp.asarray(data["labels"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return (losses * (labels > 0)).sum(1) / (labels > 0).sum(1)


def get_subject():
    model = models.Transformer(CONFIG)

    def init(key):
        params = model.init(key, inputs=jnp.ones((1, 7), int), train=False)["params"]
        return {"params": params, "opt_state": OPTIMIZER.init(params)}

    def logits(state, data, key, train):
        return apply(model, state["params"], data["inputs"], key, train)

    def update(state, gradients):
        updates, opt_state = OPTIMIZER.update(gradients, state["opt_state"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}

    return audit.Subject(
        init=init,
        loss=lambda state, data, key, train: loss(logits(state, data, key, train), data),
        batch=batch,
        logits=logits,
        update=update,
        inputs=lambda data: data["inputs"],
        with_inputs=lambda data, inputs: {**data, "inputs": inputs},
        padding="mask",
        pad=pad,
        name="flax nlp_seq",
    )


OPTIMIZER = optax.adamw(0.01, b1=0.9, b2=0.98, eps=1e-9, weight_decay=1e-1)
"""As in the example's train.py, with a constant rate."""


def apply(model, params, tokens, key, train):
    return model.apply({"params": params}, inputs=tokens, train=train, rngs={"dropout": key})


def confirm():
    """One sentence, without padding and with one and seven positions of it."""
    model = models.Transformer(CONFIG)
    words = jnp.array([[3, 7, 2, 9]])
    params = model.init(jax.random.key(0), inputs=words, train=False)["params"]
    plain, one, seven = (
        model.apply({"params": params}, inputs=jnp.pad(words, ((0, 0), (0, n))), train=False)[0, :4]
        for n in (0, 1, 7)
    )
    moved = [float(jnp.abs(x - plain).max() / jnp.abs(plain).max()) for x in (one, seven)]
    before = jnp.full(3, 2.0)
    still = optax.adamw(0.01, weight_decay=0.1)
    change = still.update(jnp.zeros(3), still.init(before), before)[0]
    words = (
        f"logits of four words move by {moved[0]:.0%} of the largest with one position of padding,"
        f" by {moved[1]:.0%} with seven"
    )
    return {
        "padding": words,
        "decay_spared": "a bias of 2 with zero gradients moves by"
        f" {float(change[0]):.4g} in a step",
    }
