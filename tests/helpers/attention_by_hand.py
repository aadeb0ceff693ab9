"""The reference, written by hand: Threefry in Python integers, masks and attention in loops, from
DESIGN.md alone.

Nothing in here calls jaxreg. Only the derivation of keys is JAX's own (`jax.random.fold_in`,
`key_data`, `bits`).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

WORD = 2**32


def threefry2x32(key, counter, rounds=13):
    """Threefry-2x32 of Salmon et al. 2011, Random123's threefry.h: two words from two words."""
    rotations = [13, 15, 26, 6, 17, 29, 16, 24]
    ks = [key[0], key[1], 0x1BD11BDA ^ key[0] ^ key[1]]
    x0, x1 = (counter[0] + ks[0]) % WORD, (counter[1] + ks[1]) % WORD
    for r in range(rounds):
        x0 = (x0 + x1) % WORD
        turn = rotations[r % 8]
        x1 = ((x1 << turn) % WORD | x1 >> (32 - turn)) ^ x0
        if r % 4 == 3:
            n = r // 4 + 1
            x0 = (x0 + ks[n % 3]) % WORD
            x1 = (x1 + ks[(n + 1) % 3] + n) % WORD
    return x0, x1


def words_1(key, key_position, group):
    """b0, b1 of bits version 1."""
    return threefry2x32(key, (key_position, group))


def words_2(key, key_position, group):
    """b0, b1 of bits version 2, as docs/bits-version-2.md says them."""
    q0, q1 = threefry2x32(key, (group, 0))
    s0, s1 = threefry2x32(key, (key_position, 1))
    x, y = q0 ^ s0, q1 ^ s1
    x = x * 0xED5AD4BB % WORD
    x = x ^ x >> 15
    y = (y + x) * 0xAC4C1B51 % WORD
    y = y ^ y >> 16
    x = (x + y) * 0x31848BAB % WORD
    x = x ^ x >> 15
    y = (y + x) * 0x7FEB352D % WORD
    return x, y ^ y >> 16


WORDS = {1: words_1, 2: words_2}


def threshold(rate):
    """t: float32(rate) * 65536 is exact in float64."""
    return min(max(math.ceil(float(np.float32(rate)) * 65536), 0), 65535)


def keep_scale(rate):
    return 65536 / (65536 - threshold(rate))


def typed(key):
    return (
        key
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        else jax.random.wrap_key_data(key, impl={2: "threefry2x32", 4: "rbg"}[key.shape[-1]])
    )


def example_key(dropout_key, row, example_id):
    """ex_key of one example: row `row` of the call, with example id `example_id` (None: none was
    given).
    """
    key = typed(dropout_key)
    if key.ndim == 0:
        return jax.random.fold_in(key, row if example_id is None else example_id)
    return key[row] if example_id is None else jax.random.fold_in(key[row], example_id)


def key_words(ex_key, head):
    key = jax.random.fold_in(ex_key, head)
    data = (
        jax.random.key_data(key)
        if jax.random.key_impl(key) == "threefry2x32"
        else jax.random.bits(key, (2,), jnp.uint32)
    )
    return int(data[0]), int(data[1])


def coordinates(unit, share, span_length, example_id, head, query, key_position):
    """What enters the draw of one connection: the unit's coordinates, less the shared ones; all
    others are 0.
    """
    enters = {"connection": "hqk", "key": "hk", "query": "hq", "head": "h", "span": "hqk"}[unit]
    example_id = 0 if "example" in share else example_id
    head = 0 if "head" in share or "h" not in enters else head
    query = 0 if "query" in share or "q" not in enters else query
    if unit == "span":
        key_position = key_position // span_length
    return example_id, head, query, key_position if "k" in enters else 0


def lanes(
    dropout_key,
    *,
    num_examples,
    heads,
    queries,
    keys,
    example_ids=None,
    unit="connection",
    share=(),
    span_length=None,
    bits=1,
):
    """[B, H, T, S] of draws below 65536: the definition of DESIGN.md, "The bits", one connection at
    a time.
    """
    draws = np.zeros((num_examples, len(heads), len(queries), len(keys)), int)
    words = {}  # fold_in by fold_in is what takes the time
    for b, h, i, j in np.ndindex(draws.shape):
        own_id = None if example_ids is None else int(example_ids[b])
        named = b if own_id is None and typed(dropout_key).ndim == 0 else own_id
        example_id, head, query, key_position = coordinates(
            unit, share, span_length, named, int(heads[h]), int(queries[i]), int(keys[j])
        )
        if (b, head) not in words:
            words[b, head] = key_words(example_key(dropout_key, b, example_id), head)
        b0, b1 = WORDS[bits](words[b, head], key_position, query // 4)
        draws[b, h, i, j] = (b0 % 65536, b0 // 65536, b1 % 65536, b1 // 65536)[query % 4]
    return draws


def keep_mask(dropout_key, rate, **coordinates):
    """[B, H, T, S] of bool: True where a connection is kept."""
    return lanes(dropout_key, **coordinates) >= threshold(rate)


def readable(allowed, free, keep, *, is_causal, stage):
    """(which keys each query reads, what its weights are multiplied with by dropping but for the
    scale), [B, H, T, S] of bool.

    Stage "logits": the allowed keys that are kept or not droppable, or all allowed ones where none
    of these is left.
    """
    reads, stays = np.zeros(allowed.shape, bool), np.ones(allowed.shape, bool)
    for row in np.ndindex(allowed.shape[:3]):
        read = [
            j
            for j in range(allowed.shape[3])
            if allowed[*row, j] and (not is_causal or j <= row[2])
        ]
        left = read
        if keep is not None and stage == "logits":
            left = [j for j in read if keep[*row, j] or not free[*row, j]]
        elif keep is not None:
            stays[row] = keep[row] | ~free[row]
        reads[*row, left or read] = True
    return reads, stays


def attention(query, key, value, *arrays, **options):
    """(output [B, T, H, K], applied weights [B, H, T, S]) in float64, row by row."""
    return attention_and_gradients(query, key, value, *arrays, **options)[:2]


def attention_and_gradients(
    query,
    key,
    value,
    bias=None,
    mask=None,
    *,
    is_causal=False,
    scale=None,
    keep=None,
    rate=0.0,
    droppable=None,
    stage="weights",
    cotangent=None,
):
    """(output, applied weights, gradients of sum(output * cotangent) for query, key, value and the
    full bias), row by row, in float64.
    """
    q, k, v = (np.asarray(x, np.float64) for x in (query, key, value))
    (b, t, h, width), (s, g), value_width = q.shape, k.shape[1:3], v.shape[-1]
    scale = 1 / math.sqrt(width) if scale is None else scale
    full = (b, h, t, s)
    bias = np.zeros(full) if bias is None else np.broadcast_to(np.asarray(bias, np.float64), full)
    allowed = np.ones(full, bool) if mask is None else np.broadcast_to(np.asarray(mask), full)
    free = (
        np.ones(full, bool) if droppable is None else np.broadcast_to(np.asarray(droppable), full)
    )
    reads, stays = readable(allowed, free, keep, is_causal=is_causal, stage=stage)
    out, weights = np.zeros((b, t, h, value_width)), np.zeros(full)
    gradients = tuple(np.zeros(x) for x in (q.shape, k.shape, v.shape, full))
    dq, dk, dv, dbias = gradients
    for e, head, i in np.ndindex(full[:3]):
        row, source = (e, head, i), head // (h // g)
        keys, values, read = k[e, :, source], v[e, :, source], np.flatnonzero(reads[e, head, i])
        probabilities = np.full(s, 1 / s)
        if read.size:
            logits = scale * keys[read] @ q[e, i, head] + bias[row][read]
            probabilities[:] = 0
            probabilities[read] = (
                np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
            )
        factor = np.ones(s)
        if keep is not None and stage == "weights":
            factor = np.where(stays[row], np.where(free[row], keep_scale(rate), 1.0), 0.0)
        weights[row] = probabilities * factor
        out[e, i, head] = weights[row] @ values
        if cotangent is None:
            continue
        dprobabilities = factor * (values @ cotangent[e, i, head])
        dlogits = (
            probabilities * (dprobabilities - probabilities @ dprobabilities)
            if read.size
            else np.zeros(s)
        )
        dv[e, :, source] += np.outer(weights[row], cotangent[e, i, head])
        dq[e, i, head] += scale * dlogits @ keys
        dk[e, :, source] += scale * np.outer(dlogits, q[e, i, head])
        dbias[row] += dlogits
    return out, weights, gradients
