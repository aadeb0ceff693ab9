"""The main result again, without jaxreg: plain Flax, optax and numpy.

Command:  python experiments/independent/cat_sat_plain.py
Time:     two minutes on two cores
Result:   experiments/results/independent/: at 8 seeds attention dropout .3 gains 12.3 points
          [+10.3, +14.3] and weight decay 7.8 [+5.5, +10.0] with Flax's position table; with the
          usual one 8.1 [+7.0, +9.2] and 4.7 [+3.4, +6.0], over a better baseline (76.1% against
          73.3%). experiments/cat_sat.py at 12 seeds: 13.3 and 6.6; cat_sat_usual_positions.py:
          9.1 and 4.2

Of jaxreg it imports the sentences only (`jaxreg.data.catsat`, numpy code without JAX). Model,
dropout, loss, optimizer, batches, accuracy and random numbers are written here once more, from the
description in the README: Flax's own attention with its own dropout (`broadcast_dropout=False`),
epochs shuffled by numpy. So at one seed its sentences are those of experiments/cat_sat.py, and
nothing else is.

The verdicts on its runs:

    jaxreg judge experiments/results/independent/usual_positions.csv --baseline=none
        --primary=recombination --margin=.05

It writes an accuracy per arm, seed and view, for two position tables: drawn from N(0, 1 / width),
as Flax's `nn.Embed` does by default, and from N(0, .02^2), as in BERT and ViT.
"""

import csv
import functools
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg.data.catsat import lexicon, splits

RESULTS = Path(__file__).parents[1] / "results" / "independent"
SEEDS = range(100, 108)
VIEWS = ("train", "validation", "recombination")
ARMS = {"none": {}, "attention_0.3": {"dropout": 0.3}, "weight_decay": {"decay": 1.0}}
POSITIONS = {
    "flax_positions": nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0),
    "usual_positions": nn.initializers.normal(0.02),
}
WIDTH, HEADS, HIDDEN, LAYERS = 32, 4, 128, 2
STEPS, BATCH, WARMUP, RATE, CLIP = 400, 16, 30, 3e-3, 1.0


class Model(nn.Module):
    """A pre-norm encoder with learned positions that answers at one position."""

    positions: nn.initializers.Initializer
    dropout: float = 0.0

    @nn.compact
    def __call__(self, tokens, place, train):
        x = nn.Embed(len(lexicon.TOKENS), WIDTH)(tokens)
        x += self.param("positions", self.positions, (tokens.shape[1], WIDTH))
        readable = (tokens != 0)[:, None, None, :]
        for _ in range(LAYERS):
            attend = nn.MultiHeadDotProductAttention(
                HEADS, dropout_rate=self.dropout, broadcast_dropout=False, deterministic=not train
            )
            x += attend(nn.LayerNorm()(x), mask=readable)
            x += nn.Dense(WIDTH)(nn.gelu(nn.Dense(HIDDEN)(nn.LayerNorm()(x))))
        return nn.Dense(len(lexicon.OUTPUTS))(nn.LayerNorm()(x)[jnp.arange(len(x)), place])


def is_kernel(params):
    """True at the matrices of linear layers, which alone are decayed."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


@functools.partial(jax.jit, static_argnames=("positions", "dropout", "decay"))
def trained(seed, data, batches, *, positions, dropout=0.0, decay=0.0):
    """The parameters after all steps; `batches` [STEPS, BATCH] are rows of `data`."""
    model = Model(POSITIONS[positions], dropout)
    start, draws = jax.random.split(jax.random.key(seed))
    params = model.init(start, data["tokens"][:1], data["place"][:1], train=False)["params"]
    rate = optax.warmup_cosine_decay_schedule(0.0, RATE, WARMUP, STEPS)
    optimizer = optax.chain(
        optax.clip_by_global_norm(CLIP),
        optax.adamw(rate, b2=0.98, weight_decay=decay, mask=is_kernel),
    )

    def step(carry, given):
        params, state = carry
        number, rows = given
        batch = {name: x[rows] for name, x in data.items()}
        rngs = {"dropout": jax.random.fold_in(draws, number)}

        def loss(params):
            logits = model.apply(
                {"params": params}, batch["tokens"], batch["place"], train=True, rngs=rngs
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    carry = params, optimizer.init(params)
    return jax.lax.scan(step, carry, (jnp.arange(STEPS), batches))[0][0]


@functools.partial(jax.jit, static_argnames="positions")
def accuracy(params, data, *, positions):
    """The share of rows where the right form's logit beats the wrong form's; ties count half."""
    logits = Model(POSITIONS[positions]).apply(
        {"params": params}, data["tokens"], data["place"], train=False
    )
    rows = jnp.arange(len(logits))
    margin = logits[rows, data["label"]] - logits[rows, data["foil"]]
    return jnp.mean((jnp.sign(margin) + 1) / 2)


def rows_of(split):
    """A split as arrays."""
    return {
        "tokens": split.tokens,
        "place": split.query_position,
        "label": split.label,
        "foil": split.foil,
    }


def shuffled(seed, size):
    """Rows of each step's batch [STEPS, BATCH]: epochs, each a permutation, end to end."""
    draw = np.random.default_rng(seed)
    epochs = -(-STEPS * BATCH // size)
    order = np.concatenate([draw.permutation(size) for _ in range(epochs)])
    return order[: STEPS * BATCH].reshape(STEPS, BATCH)


def main() -> None:
    """Trains every arm at every seed and writes a table for each kind of position table."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    drawn = {seed: splits.draw_splits(splits.Settings(seed)) for seed in SEEDS}
    for positions in POSITIONS:
        with (RESULTS / f"{positions}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["arm", "seed", *VIEWS])
            for arm, strengths in ARMS.items():
                for seed, views in drawn.items():
                    data = {name: rows_of(views[name]) for name in VIEWS}
                    batches = shuffled(seed, len(views["train"].tokens))
                    params = trained(seed, data["train"], batches, positions=positions, **strengths)
                    hits = [accuracy(params, data[name], positions=positions) for name in VIEWS]
                    table.writerow([arm, seed, *(f"{float(x):.6f}" for x in hits)])
                    print(positions, arm, seed, *(f"{100 * float(x):.1f}" for x in hits))


if __name__ == "__main__":
    main()
