"""Haiku's example of a language model: its model, its loss and its optimizer.

Needs:    pip install dm-haiku
          git clone https://github.com/google-deepmind/dm-haiku
          git -C dm-haiku checkout f4d858a5cbb29140855d68f81f5fd625e078a5ae
Command:  PYTHONPATH=dm-haiku/examples/transformer
          jaxreg audit experiments/audits/haiku_transformer.py

The example never evaluates; here evaluation is the same model with a dropout rate of 0.
"""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import model  # of the example
import numpy as np
import optax

from jaxreg import audit

PACKAGES = ("dm-haiku",)
COMMIT = "google-deepmind/dm-haiku f4d858a5, examples/transformer"
NOTES: dict[str, str] = {}
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1), optax.adam(3e-4, b1=0.9, b2=0.99))
"""As in the example."""


def batch(seed, size):
    return {"inputs": np.random.default_rng(seed).integers(1, 20, (size, 7))}


def forward(rate):
    def language_model(tokens):
        transformer = model.Transformer(num_heads=2, num_layers=2, attn_size=8, dropout_rate=rate)
        return model.LanguageModel(transformer, model_size=16, vocab_size=20, pad_token=0)(tokens)

    return hk.transform(language_model)


def at(rate):
    training, evaluation = forward(rate), forward(0.0)

    def logits(state, data, key, train):
        apply = training.apply if train else evaluation.apply
        return apply(state["params"], key, jnp.asarray(data["inputs"]))

    def loss(state, data, key, train):
        """Of the next token, of each example."""
        tokens = jnp.asarray(data["inputs"])
        out = logits(state, data, key, train)[:, :-1]
        return optax.softmax_cross_entropy_with_integer_labels(out, tokens[:, 1:]).mean(1)

    def init(key):
        params = training.init(key, jnp.ones((1, 7), int))
        return {"params": params, "opt_state": OPTIMIZER.init(params)}

    def update(state, gradients):
        updates, opt_state = OPTIMIZER.update(gradients, state["opt_state"])
        return {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}

    def step(state, data, key):
        def mean(params):
            return loss({**state, "params": params}, data, key, True).mean()

        return update(state, jax.grad(mean)(state["params"]))

    return audit.Subject(
        init=init,
        loss=loss,
        batch=batch,
        step=step,
        logits=logits,
        update=update,
        inputs=lambda data: data["inputs"],
        with_inputs=lambda data, inputs: {**data, "inputs": inputs},
        causal=True,
        name="haiku transformer",
    )


def get_subject():
    return dataclasses.replace(at(0.1), knobs={"dropout_rate": at})


def confirm():
    """Nothing failed."""
    return {}
