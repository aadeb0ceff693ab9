"""Attention probes: maps, entropy, mass on cues and edges, severed connections, replayed masks."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import rng
from jaxreg.attention import AttentionDropout, keep_mask
from jaxreg.nn import Transformer
from jaxreg.nn.layers import sown_weights
from jaxreg.typing import Array, Bool, Float, Int

ROWS = ("real", "query")


def attention_maps(
    model: Transformer,
    params: Any,
    tokens: Int[Array, "b t"],
    features: Float[Array, "b t f"] | None = None,
) -> Float[Array, "n b h t t"]:
    """The attention weights of every layer in evaluation mode; rows are queries."""
    extra: dict[str, Any] = {} if features is None else {"features": features}
    _, sown = model.apply(
        {"params": params}, tokens, padding_mask=tokens != 0, mutable="intermediates", **extra
    )
    return sown_weights(sown["intermediates"], model.num_layers)


def cue_mass(
    model: Transformer, params: Any, batch: Mapping, cues: Int[Array, "b c"]
) -> Float[Array, "c"]:
    """The query's attention to each cue: mean over layers, heads, and the sentences with the cue.

    Mass is not reliance: a model may attend to a word without using it, so the cuts are reported
    beside it.
    """
    maps = attention_maps(model, params, batch["tokens"], batch.get("features"))
    query = batch["query_position"][None, :, None, None, None]
    rows = jnp.take_along_axis(maps, query, axis=3)[:, :, :, 0]
    present = cues >= 0
    keys = jnp.maximum(cues, 0)[None, :, None, None, :]
    mass = jnp.take_along_axis(rows[..., None], keys, axis=3)[:, :, :, 0]
    mean = mass.mean(axis=(0, 2))
    return jnp.sum(mean * present, axis=0) / jnp.sum(present, axis=0)


def attention_entropy(
    model: Transformer, params: Any, batch: Mapping, *, rows: str = "real", relative: bool = False
) -> Float[Array, "n h"]:
    """The entropy of each head's attention in nats: mean over rows of -sum over keys of p log p.

    p is the row's weights over real keys, divided by their sum, so that sigmoid attention, whose
    rows need not sum to one, compares. In a causal model the weights of forbidden keys are 0, but
    these keys count in `relative`.

    Args:
      rows: "real": all real queries count alike; "query": only the rows at which the answer is
        read.
      relative: divide by the log of the number of real keys: 1 is uniform. Rows with a single key
        are left out then.

    Raises:
      ValueError: unknown rows.
    """
    if rows not in ROWS:
        raise ValueError(f"rows: {rows!r}; allowed: {', '.join(ROWS)}")
    real = batch["tokens"] != 0
    maps = attention_maps(model, params, batch["tokens"], batch.get("features"))
    weights = maps * real[:, None, None, :]
    p = weights / jnp.maximum(weights.sum(-1, keepdims=True), 1e-30)
    entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0), axis=-1)
    num_keys = real.sum(-1)[:, None]
    is_query = jnp.arange(real.shape[1]) == batch["query_position"][:, None]
    counted = is_query if rows == "query" else real
    if relative:
        counted = counted & (num_keys > 1)
        entropy = entropy / jnp.log(jnp.maximum(num_keys, 2))[:, None]
    return jnp.sum(entropy * counted[:, None], axis=(1, 3)) / jnp.sum(counted)


def edge_mass(
    model: Transformer,
    params: Any,
    batch: Mapping,
    source: int | Literal["query"],
    target: int | Literal["query"],
) -> Float[Array, "n h"]:
    """The attention from one position to another, by layer and head: mean over sentences with both.

    NaN without such sentences.

    Args:
      source, target: "query" (where the answer is read) or the column of a cue in batch["cues"]:
        ("query", 0) is query -> cue, (0, "query") cue -> query, (0, 1) cue -> cue.
    """
    ends = [
        batch["query_position"] if end == "query" else batch["cues"][:, end]
        for end in (source, target)
    ]
    present = (ends[0] >= 0) & (ends[1] >= 0)
    row, key = (jnp.maximum(end, 0) for end in ends)
    maps = attention_maps(model, params, batch["tokens"], batch.get("features"))
    mass = maps[:, jnp.arange(len(row)), :, row, key]
    return jnp.sum(mass * present[:, None, None], axis=0) / jnp.sum(present)


def choice_probability(
    model: Transformer,
    params: Any,
    tokens: Int[Array, "b t"],
    query: int,
    answer: int,
    foil: int,
    mask: Bool[Array, "*n b h t t"] | None = None,
) -> Float[Array, "b"]:
    """Probability of `answer` against `foil`, the verb's two forms, read at position `query`."""
    read = jnp.full(tokens.shape[0], query)
    logits: Any = model.apply(
        {"params": params}, tokens, padding_mask=tokens != 0, mask=mask, read_positions=read
    )
    return jax.nn.sigmoid(logits[:, answer] - logits[:, foil])


def severed_edges(
    model: Transformer,
    params: Any,
    tokens: Int[Array, "t"],
    num_words: int,
    query: int,
    answer: int,
    foil: int,
) -> tuple[float, np.ndarray, np.ndarray]:
    """The effect of each connection of the query's row on the answer.

    Returns:
      The answer's probability with nothing cut; [T] with query -> t cut in all heads and layers;
      [N, H, T] with it cut in one head of one layer.
    """
    n, h, length = model.num_layers, model.num_heads, tokens.shape[0]
    cuts = [np.zeros((n, h, num_words), bool)]
    for position in range(num_words):
        cuts.append(np.zeros((n, h, num_words), bool))
        cuts[-1][:, :, position] = True
    for layer in range(n):
        for head in range(h):
            for position in range(num_words):
                cuts.append(np.zeros((n, h, num_words), bool))
                cuts[-1][layer, head, position] = True
    mask = np.ones((n, len(cuts), h, length, length), bool)
    mask[:, :, :, query, :num_words] = ~np.stack(cuts, axis=1)
    many, cut = jnp.tile(tokens, (len(cuts), 1)), jnp.asarray(mask)
    probability = np.asarray(choice_probability(model, params, many, query, answer, foil, cut))
    by_head = probability[1 + num_words :].reshape(n, h, num_words)
    return float(probability[0]), probability[1 : 1 + num_words], by_head


def replay_masks(
    rate: float,
    seed: int,
    steps: np.ndarray,
    examples: np.ndarray,
    num_layers: int,
    num_heads: int,
    length: int,
    bits: int = 1,
) -> Bool[np.ndarray, "s n h t t"]:
    """The attention masks of real training steps, redrawn from the seed: True where kept.

    Args:
      steps, examples: [S] each: the step, and the sentence's position in that step's batch.
      bits: the version of the random bits, of `AttentionDropout`.
    """
    positions = jnp.arange(length)

    @jax.jit
    def one(step, example):
        key = rng.step_key(rng.seed_key(seed, "dropout"), step)
        dropout, heads = AttentionDropout(rate, bits=bits), jnp.arange(num_heads)
        at = {"examples": example[None], "heads": heads, "queries": positions, "keys": positions}
        sites = (rng.site(layer, "attention") for layer in range(num_layers))
        masks = [keep_mask(dropout, jax.random.fold_in(key, site), **at)[0] for site in sites]
        return jnp.stack(masks)

    pairs = zip(steps, examples, strict=True)
    return np.stack([np.asarray(one(jnp.int32(s), jnp.int32(e))) for s, e in pairs])
