"""The reference, written by hand: Threefry in Python integers, masks and attention in loops, from DESIGN.md alone.

Nothing in here calls jaxreg. Only the derivation of keys is JAX's own (`jax.random.fold_in`, `key_data`, `bits`).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

WORD = 2**32


def threefry2x32(key, counter, rounds=13):
    """Threefry-2x32 of Salmon et al. 2011 as in Random123's threefry.h: two words from two words."""
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


def threshold(rate):
    """t: float32(rate) * 65536 is exact in float64."""
    return min(max(math.ceil(float(np.float32(rate)) * 65536), 0), 65535)


def keep_scale(rate):
    return 65536 / (65536 - threshold(rate))


def typed(key):
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key, impl="threefry2x32")


def example_key(dropout_key, row, example_id):
    """ex_key of one example: row `row` of the call, with example id `example_id` (None: none was given)."""
    key = typed(dropout_key)
    if key.ndim == 0:
        return jax.random.fold_in(key, row if example_id is None else example_id)
    return key[row] if example_id is None else jax.random.fold_in(key[row], example_id)


def key_words(ex_key, head):
    key = jax.random.fold_in(ex_key, head)
    data = jax.random.key_data(key) if jax.random.key_impl(key) == "threefry2x32" else jax.random.bits(key, (2,), jnp.uint32)
    return int(data[0]), int(data[1])


def lanes(dropout_key, *, num_examples, heads, queries, keys, example_ids=None):
    """[B, H, T, S] of draws below 65536: the definition of DESIGN.md, "The bits", one connection at a time."""
    draws = np.zeros((num_examples, len(heads), len(queries), len(keys)), int)
    for b in range(num_examples):
        ex_key = example_key(dropout_key, b, None if example_ids is None else int(example_ids[b]))
        for h, head in enumerate(heads):
            words = key_words(ex_key, int(head))
            for i, query in enumerate(queries):
                for j, key_position in enumerate(keys):
                    b0, b1 = threefry2x32(words, (int(key_position), int(query) // 4))
                    draws[b, h, i, j] = (b0 % 65536, b0 // 65536, b1 % 65536, b1 // 65536)[int(query) % 4]
    return draws


def keep_mask(dropout_key, rate, **coordinates):
    """[B, H, T, S] of bool: True where a connection is kept."""
    return lanes(dropout_key, **coordinates) >= threshold(rate)


def attention(query, key, value, bias=None, mask=None, *, is_causal=False, scale=None, keep=None, rate=0.0, droppable=None):
    """(output [B, T, H, K], applied weights [B, H, T, S]) in float64, connection by connection."""
    q, k, v = (np.asarray(x, np.float64) for x in (query, key, value))
    (b, t, h, width), (s, g) = q.shape, k.shape[1:3]
    scale = 1 / math.sqrt(width) if scale is None else scale
    full = (b, h, t, s)
    bias = np.zeros(full) if bias is None else np.broadcast_to(np.asarray(bias, np.float64), full)
    allowed = np.ones(full, bool) if mask is None else np.broadcast_to(np.asarray(mask), full)
    free = np.ones(full, bool) if droppable is None else np.broadcast_to(np.asarray(droppable), full)
    out, weights = np.zeros((b, t, h, width)), np.zeros(full)
    for e in range(b):
        for head in range(h):
            source = head // (h // g)
            for i in range(t):
                read = [j for j in range(s) if allowed[e, head, i, j] and (not is_causal or j <= i)]
                if read:
                    logits = {j: scale * sum(q[e, i, head] * k[e, j, source]) + bias[e, head, i, j] for j in read}
                    top = max(logits.values())
                    total = sum(math.exp(x - top) for x in logits.values())
                    for j in read:
                        weights[e, head, i, j] = math.exp(logits[j] - top) / total
                else:
                    weights[e, head, i] = 1 / s
                for j in range(s):
                    if keep is not None and free[e, head, i, j]:
                        weights[e, head, i, j] *= keep_scale(rate) if keep[e, head, i, j] else 0
                    out[e, i, head] += weights[e, head, i, j] * v[e, j, source]
    return out, weights
