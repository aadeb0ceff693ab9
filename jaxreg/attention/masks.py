"""Position-keyed dropout: whether a connection is kept, at any coordinates.

It is a pure function of (key, example, head, query position, key position):

    ex_key = fold_in(call_key, example)
    k0, k1 = key_data(fold_in(ex_key, head))
    b0, b1 = threefry2x32_13((k0, k1), counter=(key_position, query_position // 4))
    lane   = (b0 & 0xffff, b0 >> 16, b1 & 0xffff, b1 >> 16)[query_position % 4]
    keep   = lane >= t
    t      = clip(ceil(float32(rate) * 65536), 0, 65535)
    scale  = 65536 / (65536 - t)

so the mask is the same for every block size, batch split, device count and transformation (jit,
pmap, vmap, remat). The rate that is applied is t / 65536, and the scale is the exact inverse of
the keep probability. That is bits version 1, and `AttentionDropout(..., bits=1)`, the default.

Bits version 2 (`bits=2`) differs in the two words only. Each group of four queries and each key
has two random words of its own, and a connection mixes them:

    q0, q1 = threefry2x32_13((k0, k1), counter=(query_position // 4, 0))
    s0, s1 = threefry2x32_13((k0, k1), counter=(key_position, 1))
    x, y = q0 ^ s0, q1 ^ s1                                  (all sums and products modulo 2^32)
    x = x * 0xED5AD4BB;         x = x ^ (x >> 15)
    y = (y + x) * 0xAC4C1B51;   y = y ^ (y >> 16)
    x = (x + y) * 0x31848BAB;   x = x ^ (x >> 15)
    y = (y + x) * 0x7FEB352D;   y = y ^ (y >> 16)
    b0, b1 = x, y

The mixing is invertible, so for random tables the words are uniform, and those of any three
connections are independent. What holds beyond that is measured: docs/bits-version-2.md.

Source: Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3",
doi:10.1145/2063384.2063405, Threefry-2x32 with 13 rounds, the smallest number that passes BigCrush
there. Differs: four 16-bit draws are cut from the two words. Version 2: Carter and Wegman 1979,
doi:10.1016/0022-0000(79)90044-8 (tables, joined by exclusive or); Wellons 2018,
github.com/skeeto/hash-prospector (the multipliers, of triple32 and lowbias32). Differs: two words,
that are mixed in turns.
"""

import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg.attention.dropout import AttentionDropout, check_rate
from jaxreg.typing import Array, Bool, Float, Int, PRNGKey, Scalar, UInt8, UInt32

BITS_VERSION = 1
LANES = 4
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
ROUNDS = 13
MIXING = ((0xED5AD4BB, 15), (0xAC4C1B51, 16), (0x31848BAB, 15), (0x7FEB352D, 16))
"""Multiplier and shift of each step of bits version 2."""


def threefry2x32_13(
    key: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
    counter: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Two random uint32 words for each key and counter, which broadcast against each other.

    Source: Salmon et al. 2011, doi:10.1145/2063384.2063405, section 4.2 (Threefry, 13 rounds, key
    injection after every fourth).
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(PARITY))
    x0, x1 = counter[0] + schedule[0], counter[1] + schedule[1]
    for round_index in range(ROUNDS):
        rotation = ROTATIONS[(round_index // 4) % 2][round_index % 4]
        x0 = x0 + x1
        x1 = (x1 << rotation) | (x1 >> (32 - rotation))
        x1 = x1 ^ x0
        if round_index % 4 == 3:
            injection = round_index // 4 + 1
            x0 = x0 + schedule[injection % 3]
            x1 = x1 + schedule[(injection + 1) % 3] + jnp.uint32(injection)
    return x0, x1


def tables(
    key: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
    groups: UInt32[Array, "..."],
    keys: UInt32[Array, "..."],
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The two words of each group of queries, and those of each key, of bits version 2."""
    return (
        threefry2x32_13(key, (groups, jnp.uint32(0))),
        threefry2x32_13(key, (keys, jnp.uint32(1))),
    )


def mixed(
    of_group: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
    of_key: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """The two words of a connection, of bits version 2, from those of its group and its key."""
    x, y = of_group[0] ^ of_key[0], of_group[1] ^ of_key[1]
    for step, (multiplier, shift) in enumerate(MIXING):
        x = (x + y if step else x) * jnp.uint32(multiplier)
        x, y = y, x ^ (x >> shift)
    return x, y


def draw_words(
    bits: int,
    key: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
    groups: UInt32[Array, "..."],
    keys: UInt32[Array, "..."],
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """b0 and b1 of this version for groups of four queries and keys; all arrays broadcast."""
    if bits == 1:
        return threefry2x32_13(key, (keys, groups))
    return mixed(*tables(key, groups, keys))


def threshold(rate: Scalar) -> UInt32[Array, ""]:
    """t = clip(ceil(float32(rate) * 65536), 0, 65535): lanes below it are dropped."""
    return jnp.clip(jnp.ceil(jnp.float32(rate) * 65536), 0, 65535).astype(jnp.uint32)


def keep_scale(rate: Scalar) -> Float[Array, ""]:
    """The factor of kept weights: 65536 / (65536 - t), one over the keep probability applied."""
    return jnp.float32(65536) / (jnp.float32(65536) - threshold(rate).astype(jnp.float32))


def as_typed_keys(keys: PRNGKey) -> Array:
    """Typed keys; raw ones are wrapped: two words as Threefry keys, four as rbg keys.

    Four words are unsafe_rbg keys where that is JAX's default (`jax_default_prng_impl`), as in JAX:
    raw words do not tell the two apart.

    Raises:
      ValueError: anything else.
    """
    if hasattr(keys, "dtype") and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        return keys
    words = keys.shape[-1:] if getattr(keys, "dtype", None) == jnp.uint32 else ()
    if words not in ((2,), (4,)):
        raise ValueError(
            f"dropout_key: {keys!r}; allowed are typed keys (jax.random.key) and raw ones"
            " (jax.random.PRNGKey): uint32, two words (Threefry) or four (rbg)"
        )
    if words == (2,):
        return jax.random.wrap_key_data(keys, impl="threefry2x32")
    # The types of JAX 0.10 lack this setting.
    default = jax.config.jax_default_prng_impl  # pyright: ignore[reportAttributeAccessIssue]
    is_unsafe = default == "unsafe_rbg"
    return jax.random.wrap_key_data(keys, impl="unsafe_rbg" if is_unsafe else "rbg")


def example_keys(
    dropout_key: PRNGKey, example_ids: Int[Array, "b"] | None, num_examples: int
) -> Array:
    """One key per example, [B]: ex_key of the definition above.

    Args:
      dropout_key: one key for the call, or [B] keys, one per example, which are taken as ex_key as
        they are unless example_ids are given too.
      example_ids: [B] positions in the global batch; None means 0 ... B-1 (one key) or "not needed"
        (B keys).
      num_examples: B.
    """
    keys = as_typed_keys(dropout_key)
    if keys.ndim == 0:
        ids = jnp.arange(num_examples) if example_ids is None else example_ids
        return jax.vmap(_fold_in_of(keys), (None, 0))(keys, ids)
    if keys.shape != (num_examples,):
        raise ValueError(
            f"dropout_key: {keys.shape} keys for {num_examples} examples; allowed are () and"
            f" ({num_examples},)"
        )
    return keys if example_ids is None else jax.vmap(_fold_in_of(keys))(keys, example_ids)


def mask_words(
    dropout: AttentionDropout,
    dropout_key: PRNGKey,
    example_ids: Int[Array, "b"] | None,
    num_examples: int,
    heads: Int[Array, "h"],
) -> tuple[UInt32[Array, "#b #h"], UInt32[Array, "#b #h"]]:
    """The two key words k0, k1 for every example and head; a shared axis has length 1.

    Raises:
      ValueError: share "example" with a key per example: they have no mask in common.
    """
    if "example" in dropout.coordinates:
        ex_keys = example_keys(dropout_key, example_ids, num_examples)
    elif as_typed_keys(dropout_key).ndim:
        raise ValueError(
            f"dropout_key: {as_typed_keys(dropout_key).shape} keys, one per example, with share"
            " 'example'; allowed is one key"
        )
    else:
        ex_keys = jax.random.fold_in(as_typed_keys(dropout_key), 0)[None]
    return head_words(ex_keys, heads if "head" in dropout.coordinates else jnp.zeros(1, jnp.int32))


def head_words(
    ex_keys: Array, heads: Int[Array, "h"]
) -> tuple[UInt32[Array, "b h"], UInt32[Array, "b h"]]:
    """The two key words of every head, from one key per example."""
    keys = jax.vmap(jax.vmap(_fold_in_of(ex_keys), (None, 0)), (0, None))(ex_keys, heads)
    is_threefry = jax.random.key_impl(keys) == "threefry2x32"
    words = jax.random.key_data(keys) if is_threefry else jax.vmap(jax.vmap(_reduced))(keys)
    return words[..., 0], words[..., 1]


def _fold_in_of(keys: Array) -> Callable[[Array, Array], Array]:
    """`fold_in` for keys of this kind that gives the same under vmap as alone."""
    alone = jax.random.key_impl(keys) not in ("threefry2x32", "rbg")
    return _folded_alone if alone else jax.random.fold_in


@jax.custom_batching.sequential_vmap
def _folded_alone(key: Array, data: Array) -> Array:
    """`fold_in`, one key at a time: that of unsafe_rbg draws bits, see `_reduced`."""
    return jax.random.fold_in(key, data)


@jax.custom_batching.sequential_vmap
def _reduced(key: Array) -> UInt32[Array, "2"]:
    """Two words of a non-Threefry key; one at a time, as vmap draws rbg bits from the first."""
    return jax.random.bits(key, (2,), jnp.uint32)


def key_coordinate(dropout: AttentionDropout, keys: UInt32[Array, "*s"]) -> UInt32[Array, "*s"]:
    """The key coordinate of the draw: the position, or the number of its span."""
    return keys if dropout.span_length is None else keys // jnp.uint32(dropout.span_length)


def _lanes(words: tuple[Array, Array]) -> tuple[Array, Array, Array, Array]:
    b0, b1 = words
    low = jnp.uint32(0xFFFF)
    return b0 & low, b0 >> 16, b1 & low, b1 >> 16


def keep_mask(
    dropout: AttentionDropout,
    dropout_key: PRNGKey,
    *,
    examples: Int[Array, "e"] | None,
    heads: Int[Array, "h"],
    queries: Int[Array, "t"],
    keys: Int[Array, "s"],
) -> Bool[Array, "e h t s"]:
    """True where a connection is kept, at any coordinates, without computing attention.

    The result is the outer product of the four coordinate arrays, equal bit for bit to what
    attention used there (before `droppable`, and before the rule of stage "logits" for rows that
    would lose every key).

    Args:
      dropout: which unit is dropped and at what rate.
      dropout_key: the call key, or one key per example (then `examples` may be None).
      examples: positions in the global batch.
      heads: query heads.
      queries, keys: positions in the sequence.

    Raises:
      ValueError: a concrete rate outside [0, 1), coordinates that are no one-dimensional integer
        arrays, or keys that do not fit `examples`.

    Randomness: position-keyed, see the module's docstring.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg
      >>> dropout, key = jaxreg.AttentionDropout(0.5), jax.random.key(0)
      >>> whole = jaxreg.keep_mask(
      ...     dropout, key, examples=jnp.arange(3), heads=jnp.arange(2),
      ...     queries=jnp.arange(8), keys=jnp.arange(8))
      >>> whole.shape
      (3, 2, 8, 8)
      >>> part = jaxreg.keep_mask(
      ...     dropout, key, examples=jnp.array([2]), heads=jnp.array([1]),
      ...     queries=jnp.array([5]), keys=jnp.arange(8))
      >>> bool((part[0, 0, 0] == whole[2, 1, 5]).all())  # the same bits
      True
    """
    check_rate(dropout.rate, "dropout.rate")
    for name, x in (("examples", examples), ("heads", heads), ("queries", queries), ("keys", keys)):
        if name == "examples" and x is None:
            continue
        if x is None or getattr(x, "ndim", None) != 1 or not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(f"{name}: {x!r}; allowed is a one-dimensional array of integers")
    if examples is None and as_typed_keys(dropout_key).ndim != 1:
        raise ValueError("examples: None; allowed is None only with one key per example")
    num_examples = as_typed_keys(dropout_key).shape[0] if examples is None else examples.shape[0]
    words = mask_words(dropout, dropout_key, examples, num_examples, heads)
    kept = keep_at(dropout, words, queries.astype(jnp.uint32), keys.astype(jnp.uint32))
    return jnp.broadcast_to(kept, (num_examples, heads.shape[0], queries.shape[0], keys.shape[0]))


def keep_at(
    dropout: AttentionDropout,
    words: tuple[UInt32[Array, "b h"], UInt32[Array, "b h"]],
    queries: UInt32[Array, "t"],
    keys: UInt32[Array, "s"],
) -> Bool[Array, "b h #t #s"]:
    """`keep_mask` at scattered positions; a coordinate that does not enter has length 1."""
    queries = queries if "query" in dropout.coordinates else jnp.zeros(1, jnp.uint32)
    is_keyed = "key" in dropout.coordinates
    keys = key_coordinate(dropout, keys) if is_keyed else jnp.zeros(1, jnp.uint32)
    k0, k1 = (word[:, :, None, None] for word in words)
    queries = queries[None, None, :, None]
    keys, groups = keys[None, None, None, :], queries // LANES
    lanes = _lanes(draw_words(dropout.bits, (k0, k1), groups, keys))
    lane = jnp.select([queries % LANES == i for i in range(LANES)], lanes)
    return lane >= threshold(dropout.rate)


def packed_lanes(
    k0: UInt32[Array, "..."],
    k1: UInt32[Array, "..."],
    groups: UInt32[Array, "..."],
    keys: UInt32[Array, "..."],
    t: UInt32[Array, ""],
    bits: int = 1,
) -> UInt8[Array, "..."]:
    """Four rows of the mask in one uint8 array: bit i is set if query 4 * group + i keeps the key.

    All arrays broadcast; `bits` is the version. The loop runs once, or not at all where nothing is
    dropped. It keeps XLA from fusing Threefry into the consumers of the bits, where it would run
    once per lane. Its bound is hidden from XLA, which would otherwise unroll it for a constant
    rate.
    """
    shape = jnp.broadcast_shapes(k0.shape, k1.shape, groups.shape, keys.shape)
    k0, k1, groups, keys = (
        x.reshape((1,) * (len(shape) - x.ndim) + x.shape) for x in (k0, k1, groups, keys)
    )
    # Zeros that depend on all inputs, so that the loop's state varies over the same mesh axes in
    # shard_map.
    zero = (k0 & 0) + (k1 & 0) + (groups & 0) + (keys & 0) + (t & 0)

    # Outside of the loop, or XLA would draw the tables again for every connection.
    words = None if bits == 1 else tables((k0, k1), groups, keys)

    # lane >= t where lane + (2^16 - t) has bit 16. Integers of one width throughout: with vectors
    # of 256 bits this takes an eighth less time than comparing and selecting bytes.
    carry = jnp.uint32(1 << 16) - t

    def draw(_, __) -> Array:
        drawn = threefry2x32_13((k0, k1), (keys, groups)) if words is None else mixed(*words)
        kept = (((lane + carry) >> 16) << i for i, lane in enumerate(_lanes(drawn)))
        return functools.reduce(operator.or_, kept).astype(jnp.uint8)

    everything = jnp.broadcast_to(zero, shape).astype(jnp.uint8) + jnp.uint8(15)
    return lax.fori_loop(0, lax.optimization_barrier((t > 0).astype(jnp.int32)), draw, everything)


def unpacked(packed: UInt8[Array, "*b x s"]) -> Bool[Array, "*b t s"]:
    """The mask of `packed_lanes`: four rows for each row of bytes."""
    lanes = jnp.uint8(1) << jnp.arange(LANES, dtype=jnp.uint8)
    packed = packed[..., :, None, :]
    rows = (packed & jnp.expand_dims(lanes, (*range(packed.ndim - 2), -1))) != 0
    return rows.reshape(*packed.shape[:-3], LANES * packed.shape[-3], packed.shape[-1])


def keep_all_positions(
    dropout: AttentionDropout,
    words: tuple[UInt32[Array, "b h"], UInt32[Array, "b h"]],
    num_queries: int,
    num_keys: int,
    query_offset: Int[Array, ""] | None = None,
) -> Bool[Array, "b h #t #s"]:
    """`keep_at` for queries 0 ... T-1 and keys 0 ... S-1 at a quarter of the cost.

    Each word pair serves four rows. With an offset the first query is that one, at the full cost.
    """
    queries, keys = (jnp.arange(n, dtype=jnp.uint32) for n in (num_queries, num_keys))
    if query_offset is not None:
        queries = queries + query_offset.astype(jnp.uint32)
    if query_offset is not None or not {"query", "key"} <= dropout.coordinates:
        return keep_at(dropout, words, queries, keys)
    groups = jnp.arange(-(-num_queries // LANES), dtype=jnp.uint32)
    k0, k1 = (word[:, :, None, None] for word in words)
    keys, t = key_coordinate(dropout, keys)[None, :], threshold(dropout.rate)
    packed = packed_lanes(k0, k1, groups[:, None], keys, t, dropout.bits)
    return unpacked(packed)[:, :, :num_queries]
