"""Checks of the draws: keep rate, unbiasedness, and which connections share a draw.

Statistics are over many keys. A mask may be shared over examples, heads, queries, or runs of
neighbouring keys; the sharing is found first, and one connection of each group is counted, so that
the counts are of independent draws.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.attention.conformance.bench import (
    LONG,
    MANY,
    RATE,
    SMALL,
    Bench,
    Case,
    inputs,
    read_weights,
)
from jaxreg.attention.conformance.exactness import CLOSE, require
from jaxreg.attention.conformance.result import CheckFailed, NotOffered

KEEP_RATES = (RATE, 0.25)
ODD_RATE = 1.5 / 256
"""A rate half-way between two 8-bit values, where rounding to 8 bits is off by a third."""

AXES = ("examples", "heads", "queries", "keys")
BOUND = 4.5
"""Standard errors beyond which one statistic is no chance; 5.5 for the worst of many."""

_DRAWS = (64, 2048)
_COUNTED = 20_000


class Draws:
    """Masks of many keys at one rate.

    Attributes:
      kept: bool [N, B, H, T, S], one connection of every group that shares its draw.
      scales: what kept weights were multiplied with, for each key that keeps any.
    """

    def __init__(self, kept: np.ndarray, scales: np.ndarray, groups: tuple[np.ndarray, ...]):
        self.kept = kept[np.ix_(np.arange(len(kept)), *groups)]
        self.scales = scales

    @property
    def share(self) -> float:
        """The share of connections kept."""
        return float(self.kept.mean())

    def along(self, axis: int) -> np.ndarray:
        """The share of connections kept at each place along one of the axes 1 ... 4, [length]."""
        return self.kept.mean(axis=tuple(i for i in range(5) if i != axis))

    def centred(self) -> np.ndarray:
        """`kept` less its mean and less the excess rate of each example, head, query and key."""
        ways = [
            np.expand_dims(self.along(axis) - self.share, tuple(i for i in range(5) if i != axis))
            for axis in range(1, 5)
        ]
        return self.kept - self.share - sum(ways)

    def error(self, rate: float) -> float:
        """The standard error of `share` at this rate."""
        return float(np.sqrt(rate * (1 - rate) / self.kept.size))


def keep_rate(bench: Bench) -> str:
    """As many connections are kept as the rate says."""
    bench.require_draws()
    details = []
    for rate in KEEP_RATES:
        draws = _draws(bench, rate)
        z = (draws.share - (1 - rate)) / draws.error(rate)
        require(
            abs(z) < BOUND,
            f"rate {rate}: {draws.share:.4f} are kept, not {1 - rate:.4f} (z = {z:+.1f} of"
            f" {draws.kept.size:,} draws)",
        )
        for axis, name in enumerate(AXES, 1):
            line = draws.along(axis)
            z_line = (line - (1 - rate)) / draws.error(rate) / line.size**0.5
            worst = int(np.abs(z_line).argmax())
            require(
                abs(z_line[worst]) < 5.5,
                f"rate {rate}: one of {line.size} {name} keeps {line[worst]:.4f}, not"
                f" {1 - rate:.4f} (z = {z_line[worst]:+.1f})",
            )
        details.append(f"rate {rate}: {draws.share:.4f} kept (z = {z:+.1f})")
    return "; ".join(details)


def scale(bench: Bench) -> str:
    """The scale is one over the keep probability."""
    bench.require_scaled_weights("kept ones are not scaled")
    details = []
    for rate in (ODD_RATE, RATE):
        draws = _draws(bench, rate)
        number = float(np.median(draws.scales))
        require(
            np.ptp(draws.scales) < CLOSE * number,
            f"rate {rate:.5f}: the scale changes from key to key: {draws.scales.min():.4g} to"
            f" {draws.scales.max():.4g}",
        )
        product, error = number * draws.share, number * draws.error(rate)
        require(
            abs(product - 1) < BOUND * error,
            f"rate {rate:.5f}: kept weights x {number:.5f}, but {draws.share:.5f} are kept: the"
            f" mean is {product:.4f} of what it should be",
        )
        details.append(
            f"rate {rate:.5f}: {number:.5f} x {draws.share:.5f} kept = {product:.4f} ± {error:.4f}"
        )
    return "; ".join(details)


def unbiased(bench: Bench) -> str:
    """The mean over keys is the output without dropout."""
    bench.require_scaled_weights("its mean is another function")
    query, key, value = inputs(MANY)
    passed, num_draws = bench.forward(Case(MANY)), 256
    plain = np.asarray(passed(query, key, value, jax.random.key(0), None), np.float64)
    draw = bench.forward(Case(MANY, RATE))
    draw_keys = (jax.random.key(1000 + n) for n in range(num_draws))
    drawn = (draw(query, key, value, draw_key, None) for draw_key in draw_keys)
    outs = np.stack([np.asarray(out, np.float64) for out in drawn])
    relative = (outs * plain).sum((1, 2, 3, 4)) / (plain**2).sum()
    mean, error = relative.mean(), relative.std() / num_draws**0.5 + 1e-9
    require(
        abs(mean - 1) < BOUND * error,
        f"the mean over {num_draws} keys is {mean:.3f} ± {error:.3f} of the output without dropout",
    )
    errors = outs.std(0) / num_draws**0.5
    worst = float((np.abs(outs.mean(0) - plain) / np.maximum(errors, 1e-6)).max())
    require(
        worst < 6.5, f"one entry's mean over {num_draws} keys is off by {worst:.1f} standard errors"
    )
    return (
        f"mean over {num_draws} keys is {mean:.4f} ± {error:.4f} of it; worst of {plain.size:,}"
        f" entries z = {worst:.1f}"
    )


def keys(bench: Bench) -> str:
    """One key, one mask; another key, another mask."""
    bench.require_dropout()
    if not bench.subject.offers("dropout_key"):
        raise CheckFailed(
            "no argument for a PRNG key: every call drops the same, or no call can be repeated"
        )
    case = Case(SMALL, RATE)
    first, second = (read_weights(bench.forward(case), SMALL, jax.random.key(0)) for _ in range(2))
    require(np.array_equal(first, second), "the same key gives another mask in the next call")
    require(bench.keys_matter, "every key gives the same mask")
    centred = _draws(bench, RATE).centred()
    for axis, name in enumerate(("PRNG keys", *AXES)):
        if centred.shape[axis] > 1:
            along = np.moveaxis(centred, axis, 0)
            r = float(np.mean(along[1:] * along[:-1]) / max(along.var(), 1e-9))
            require(
                abs(r) * along[1:].size ** 0.5 < 5.5,
                f"masks of neighbouring {name} correlate: r = {r:.3f}",
            )
    parts = ("the same again, and independent between keys", _shared(bench), _broadcast(bench))
    return "; ".join(filter(None, parts))


def repeats(bench: Bench) -> str:
    """No pattern comes back elsewhere in a long mask, in another head or under another key."""
    bench.require_draws()
    case = Case(LONG, RATE)
    masks = np.concatenate([bench.replay(case, seed).kept for seed in range(2)])
    masks = masks.reshape(-1, LONG.queries, LONG.keys)
    groups = [_groups(masks, axis) for axis in (1, 2)]
    masks = masks[np.ix_(_groups(masks, 0), *groups)]
    if min(masks.shape[1:]) < 64:
        raise NotOffered(f"the mask is {_shared(bench)}")
    size = (2 * masks.shape[1], 2 * masks.shape[2])
    spectra = [np.fft.rfft2(x - x.mean(), size) for x in masks]
    variance = max(float(masks.var()), 1e-9)
    overlap = np.fft.irfft2(np.abs(np.fft.rfft2(np.ones(masks.shape[1:]), size)) ** 2, size).round()
    worst, where = 0.0, ""
    for i, first in enumerate(spectra):
        for j, second in enumerate(spectra[i:], i):
            errors = variance * np.sqrt(np.maximum(overlap, 1))
            z = np.fft.irfft2(first * second.conj(), size) / errors
            z[overlap < 1000] = 0
            if i == j:
                z[0, 0] = 0
            found = np.unravel_index(np.abs(z).argmax(), z.shape)
            if abs(z[found]) > worst:
                shape = masks.shape[1:]
                down, right = ((n + m) % (2 * m) - m for n, m in zip(found, shape, strict=True))
                worst, other = float(abs(z[found])), "itself" if i == j else "another head or key"
                where = f"{other}, {down} queries and {right} keys away"
    require(worst < 7, f"a mask of {LONG} resembles {where} (z = {worst:.0f})")
    return (
        f"{len(masks)} masks of {masks.shape[1]} x {masks.shape[2]} against each other at every"
        f" shift: largest z = {worst:.1f}"
    )


def _draws(bench: Bench, rate: float) -> Draws:
    """Masks of many keys, so that the share kept is known with precision."""
    groups = _all_groups(bench)
    num_draws = int(np.clip(_COUNTED / np.prod([len(group) for group in groups]), *_DRAWS))
    return bench.once(("draws", rate), lambda: Draws(*_kept(bench, rate, num_draws), groups))


def _all_groups(bench: Bench) -> tuple[np.ndarray, ...]:
    """The first of each group of neighbours on B, H, T, S that share their draws under 64 keys."""

    def find():
        kept = _kept(bench, RATE, _DRAWS[0])[0]
        return tuple(_groups(kept, axis) for axis in range(1, 5))

    return bench.once(("groups",), find)


def _kept(bench: Bench, rate: float, num_draws: int) -> tuple[np.ndarray, np.ndarray]:
    def read():
        found = [bench.replay(Case(MANY, rate), seed) for seed in range(num_draws)]
        # Where everything is dropped, as with whole heads, the scale cannot be measured.
        scales = [one.scale for one in found if one.kept.any()]
        return np.stack([one.kept for one in found]), np.array(scales)

    return bench.once(("kept", rate, num_draws), read)


def _groups(kept: np.ndarray, axis: int) -> np.ndarray:
    """Where along the axis the mask changes: the first index of each run of equal slices."""
    slices = np.moveaxis(kept, axis, 0).reshape(kept.shape[axis], -1)
    return np.flatnonzero(np.r_[True, (slices[1:] != slices[:-1]).any(1)])


def _shared(bench: Bench) -> str:
    """The sharing of draws, for the table."""
    lengths = (MANY.examples, MANY.heads, MANY.queries, MANY.keys)
    details = []
    for name, group, length in zip(AXES, _all_groups(bench), lengths, strict=True):
        if len(group) < length:
            run = f"runs of {-(-length // len(group))} {name}"
            details.append(f"all {name}" if len(group) == 1 else run)
    if details:
        return f"shared by {', '.join(details)}"
    return "nothing is shared by examples, heads, queries or keys"


def _broadcast(bench: Bench) -> str:
    """The effect of Flax's broadcast_dropout, for the table; "" without that argument."""
    if not bench.subject.offers("broadcast"):
        return ""
    query, key, value = inputs(SMALL)
    identity = jnp.broadcast_to(jnp.eye(SMALL.keys, SMALL.width)[:, None], value.shape)
    name = bench.subject.names["broadcast"]

    def read(broadcast):
        given = {"rate": RATE, "dropout_key": jax.random.key(0), "broadcast": broadcast}
        return np.asarray(bench.subject(query, key, identity, **given))

    off, on = read(False) > 0, read(True) > 0
    if np.array_equal(off, on):
        return f"{name} changes nothing"
    places = {"examples": 0, "heads": 2}
    shared = [axis for axis, n in places.items() if (on == on.take([0], n)).all()]
    return f"{name}=True shares it by {' and '.join(shared) or 'something else'}"


CHECKS: dict[str, Callable[[Bench], str]] = {
    "keep_rate": keep_rate,
    "scale": scale,
    "unbiased": unbiased,
    "keys": keys,
    "repeats": repeats,
}
"""Name -> check: it returns its line, or raises Failed or NotOffered."""
