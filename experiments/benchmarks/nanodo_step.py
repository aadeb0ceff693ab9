"""A whole training step of nanodo, with its own attention and with ours in its place.

Needs:    git clone https://github.com/google-deepmind/nanodo
          git -C nanodo checkout 10aefdeed40a63293daf112b91a5538cd24fa3a4
Command:  PYTHONPATH=nanodo python experiments/benchmarks/nanodo_step.py [--rounds=5]
          [--lengths=512,1024,2048] [--output=FILE.json]

nanodo's model (2 layers, width 256, 4 heads, 257 tokens, batch 4, float32) and optax.adamw; only
the attention layer changes: nanodo's own, which has no dropout; the same with Flax's attention and
a mask per connection; ours without dropout and with it. The parameters are the same tree, and the
logits without dropout are compared before anything is timed. Contenders take turns in one process;
medians of the rounds. Memory: the step's temporary bytes by XLA's own analysis.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.benchmarks import turns
from jaxreg import AttentionDropout, dot_product_attention

WIDTH, HEADS, LAYERS, VOCABULARY, BATCH, RATE = 256, 4, 2, 257, 4, 0.1
CONTENDERS = {
    "nanodo": "nanodo's own attention, no dropout",
    "flax": "nanodo with Flax's attention, dropout .1",
    "jaxreg": "nanodo with jaxreg's attention, no dropout",
    "jaxreg_dropout": "nanodo with jaxreg's attention, dropout .1",
}


def attention_layer(kind: str) -> type[nn.Module]:
    """nanodo's attention layer with another function in its middle; its parameters' names stay."""

    class CausalAttn(nn.Module):
        cfg: Any

        @nn.compact
        def __call__(self, x):
            cfg = self.cfg

            def project(name: str) -> jax.Array:
                shape = (cfg.H, cfg.D // cfg.H)
                return nn.DenseGeneral(shape, use_bias=False, dtype=cfg.dtype, name=name)(x)

            read = _attend(kind, self, *map(project, ("query", "key", "value")))
            return nn.DenseGeneral(
                cfg.D, axis=(-2, -1), use_bias=False, dtype=cfg.dtype, name="attn_out_proj"
            )(read)

    return CausalAttn


def _attend(kind: str, module: nn.Module, query: Any, key: Any, value: Any) -> Any:
    dropped = module.has_rng("dropout")
    if kind == "flax":
        return nn.dot_product_attention(
            query,
            key,
            value,
            mask=nn.make_causal_mask(jnp.ones(query.shape[:2])),
            dropout_rate=RATE,
            broadcast_dropout=False,
            deterministic=not dropped,
            dropout_rng=module.make_rng("dropout") if dropped else None,
        )
    drops = kind == "jaxreg_dropout" and dropped
    return dot_product_attention(
        query,
        key,
        value,
        is_causal=True,
        dropout=AttentionDropout(RATE) if drops else None,
        dropout_key=module.make_rng("dropout") if drops else None,
    )


class Contender:
    """A model of one kind of attention, and its compiled step.

    Args:
      kind: a key of `CONTENDERS`. length: of the sequences. params: None makes them.
    """

    def __init__(self, kind: str, length: int, params: Any = None):
        from nanodo import model

        own = model.CausalAttn
        model.CausalAttn = own if kind == "nanodo" else attention_layer(kind)
        try:  # nanodo's block looks the layer up when it is traced
            self._start(model, length, params)
        finally:
            model.CausalAttn = own

    def _start(self, model: Any, length: int, params: Any) -> None:
        config = model.DoConfig(
            D=WIDTH, H=HEADS, L=length, N=LAYERS, V=VOCABULARY, F=4 * WIDTH, fsdp_enabled=False
        )
        network, optimizer = model.TransformerDo(config), optax.adamw(1e-3)
        rows = np.random.default_rng(0).integers(0, VOCABULARY, (BATCH, length + 1))
        tokens, labels = jnp.asarray(rows[:, :-1]), jnp.asarray(rows[:, 1:])
        self.params = (
            network.init(jax.random.key(0), tokens[:1])["params"] if not params else params
        )
        self.logits = jax.jit(network.apply)({"params": self.params}, tokens[:1])

        def step(params: Any, state: Any, key: Any) -> Any:
            def loss(params: Any) -> Any:
                logits = network.apply({"params": params}, tokens, rngs={"dropout": key})
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
                return losses.mean()

            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        self._state = optimizer.init(self.params)
        lowered = jax.jit(step).lower(self.params, self._state, jax.random.key(0))
        self._step = lowered.compile()
        self.temporary_bytes = self._step.memory_analysis().temp_size_in_bytes

    def run(self, key: jax.Array) -> float:
        """Seconds of one step."""
        start = time.perf_counter()
        jax.block_until_ready(self._step(self.params, self._state, key))
        return time.perf_counter() - start


def contenders(length: int) -> dict[str, Contender]:
    """One of each kind, of the same parameters.

    Raises:
      AssertionError: their logits differ without dropout.
    """
    found = {"nanodo": Contender("nanodo", length)}
    first = found["nanodo"]
    for kind in CONTENDERS:
        if kind not in found:
            found[kind] = Contender(kind, length, first.params)
            np.testing.assert_allclose(found[kind].logits, first.logits, atol=2e-5)
    return found


def measure(lengths: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """A row for each length and contender: seconds of a step, all rounds, and memory."""
    rows = []
    for length in lengths:
        own = contenders(length)
        seconds: dict[str, list[float]] = {kind: [] for kind in own}
        for number in range(rounds + 1):
            for kind, contender in own.items():
                taken = contender.run(jax.random.key(number))
                if number:  # the first is a warm-up
                    seconds[kind].append(taken)
        rows += [
            {
                "length": length,
                "contender": kind,
                "seconds": statistics.median(seconds[kind]),
                "rounds": seconds[kind],
                "temporary_bytes": contender.temporary_bytes,
            }
            for kind, contender in own.items()
        ]
    return rows


def main() -> None:
    """Measures, prints the table, and writes it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lengths", default="512,1024,2048")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    rows = measure([int(length) for length in given.lengths.split(",")], given.rounds)
    print(f"{turns.processor()}; medians of {given.rounds} rounds")
    for row in rows:
        print(
            f"{row['length']:6}  {CONTENDERS[row['contender']]:45}{1e3 * row['seconds']:8.0f} ms"
            f"{row['temporary_bytes'] / 1e6:8.0f} MB"
        )
    if given.output:
        result = {"machine": turns.processor(), "batch": BATCH, "rows": rows}
        given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
