"""Clips: what an optimizer's state keeps of gradients of all sizes, of NaN and of infinity.

Adam moves as far for g as for 1000 g, so the parameters tell nothing of a clip. The moments do:
they grow with the gradients unless those are clipped before.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxreg.audit.bench import Bench
from jaxreg.audit.check import Check, CheckFailed, NotApplicable
from jaxreg.audit.updates import Updates, far_from_zero, filled, knob_named, total_size, updates_of

SMALL, LARGE = 1e-4, 1e6
"""Norms of gradients that no clip, and that every clip cuts."""
BATCHES = 4
TOLERANCE = 0.02


def knob(bench: Bench) -> str | None:
    """The name of the knob of clipping by the whole gradient's norm, if there is one."""
    return knob_named(bench.subject, ("clip", "grad", "gradient"), but=("noise", "adaptive"))


@dataclasses.dataclass(frozen=True)
class Clip:
    """What clips.

    Attributes:
      norm: the gradient's norm from which on it is cut; None: no gradient is cut.
      scope: "global norm": all leaves shrink together; "leaf": each by itself; "value or unit":
        parts of a leaf by themselves; "unknown".
    """

    norm: float | None
    scope: str


def clip_of(updates: Updates) -> Clip:
    """The clip before the moments, or before the parameters where there are no moments.

    Raises:
      NotApplicable: the state shows nothing of a gradient's size.
    """
    probe = _Probe(updates)
    small, ten_times = probe.kept(SMALL), probe.kept(10 * SMALL)
    power = np.log10(np.maximum(ten_times, 1e-300) / np.maximum(small, 1e-300))
    order = next((k for k in (1, 2) if np.any((small > 0) & (np.abs(power - k) < TOLERANCE))), None)
    if order is None:
        raise NotApplicable("nothing in the state shows how large a gradient was")
    leaves = np.flatnonzero((small > 0) & (np.abs(power - order) < TOLERANCE))
    leaf = leaves[small[leaves].argmax()]
    large, larger = probe.kept(LARGE)[leaf], probe.kept(10 * LARGE)[leaf]
    if larger > 10 ** (order / 2) * large:
        return Clip(None, "unknown")
    norm = float(SMALL * (larger / small[leaf]) ** (1 / order))
    return Clip(norm, probe.scope(norm, order, leaves))


class _Probe:
    """The state's answers to gradients, one number or array for each of its leaves."""

    def __init__(self, updates: Updates):
        self.updates = updates
        draw = np.random.default_rng(1)
        leaves, self.tree = jax.tree.flatten(updates.first)
        self.dtypes = [leaf.dtype for leaf in leaves]
        normal = [draw.normal(size=leaf.shape) for leaf in leaves]
        self.direction = [x / total_size(normal) for x in normal]
        self.has_moments = bool(updates.others(updates.start))
        params = far_from_zero(updates.first) if self.has_moments else filled(updates.first, 0)
        self.params = params
        self.state = updates.start if self.has_moments else updates.moving
        self.still = self.read(filled(updates.first, 0))

    def read(self, gradients: Any) -> list[np.ndarray]:
        """The numbers that a gradient leaves behind."""
        state = self.updates.after(self.state, self.params, gradients)
        if self.has_moments:
            return self.updates.others(state)
        return [np.asarray(x, np.float64) for x in jax.tree.leaves(self.updates.params(state))]

    def left(self, leaves: list[np.ndarray]) -> list[np.ndarray]:
        """What these gradients leave behind, beyond what zero gradients do."""
        gradients = [x.astype(dtype) for x, dtype in zip(leaves, self.dtypes)]
        found = self.read(jax.tree.unflatten(self.tree, gradients))
        return [x - y for x, y in zip(found, self.still)]

    def kept(self, norm: float) -> np.ndarray:
        """The size of what a gradient of this norm leaves in each leaf."""
        return np.array([total_size([x]) for x in self.left([norm * g for g in self.direction])])

    def scope(self, norm: float, order: int, shown: np.ndarray) -> str:
        """What a clip at `norm` shrinks together, as the leaves `shown` of the state say.

        The gradient is below the clip but for one leaf, or one number of a leaf, far above it.
        """
        sizes = [g.size for g in self.direction]
        small = [0.1 * norm * g for g in self.direction]
        much = 1e3 * norm
        big, *others = np.argsort(sizes)[::-1].tolist()
        if others:
            place = self.answering(small, others[0], shown)
            if place is None:
                return "unknown"
            grown = [g * (much / total_size([g]) if i == big else 1) for i, g in enumerate(small)]
            if _shrunk(self.left(grown)[place], self.left(small)[place], order):
                return "global norm"
        place = self.answering(small, big, shown)
        if place is None or self.still[place].shape != small[big].shape or sizes[big] < 2:
            return "unknown"
        peak = [g.copy() for g in small]
        peak[big].flat[0] = much
        with_peak, without = (self.left(g)[place].ravel()[1:] for g in (peak, small))
        together = _shrunk(with_peak, without, order)
        return ("leaf" if others else "global norm") if together else "value or unit"

    def answering(self, gradients: list[np.ndarray], leaf: int, shown: np.ndarray) -> int | None:
        """The leaf of the state that shows the gradient of this leaf of the parameters most."""
        alone = [g if i == leaf else 0 * g for i, g in enumerate(gradients)]
        sizes = [
            total_size([x]) if i in shown and x.shape == gradients[leaf].shape else 0.0
            for i, x in enumerate(self.left(alone))
        ]
        return int(np.argmax(sizes)) if max(sizes) > 0 else None


def _shrunk(now: np.ndarray, before: np.ndarray, order: int) -> bool:
    return total_size([now]) < 0.5**order * total_size([before])


def _found(bench: Bench, strength: float | None = None) -> Clip:
    name = knob(bench)
    this = bench if strength is None or name is None else bench.at(name, strength)
    return this.once(("clip",), lambda: clip_of(updates_of(this)))


def _clips(bench: Bench) -> str:
    name, strength = knob(bench), 0.5
    clip = _found(bench, strength)
    if name is None:
        if clip.norm is None:
            raise NotApplicable(
                "no gradient is cut before the moments; if one should be, give"
                ' knobs={"max_grad_norm": ...}'
            )
        return f"cut from a norm of {clip.norm:.3g} on ({clip.scope}), before the moments"
    if clip.norm is None:
        raise CheckFailed(
            f"{name}={strength:g}: what the state keeps of a gradient of norm {10 * LARGE:.0e} is"
            f" 10 times what it keeps of {LARGE:.0e}; nothing is cut before the moments"
        )
    if clip.scope == "global norm" and abs(clip.norm / strength - 1) > 0.05:
        raise CheckFailed(f"{name}={strength:g} cuts at a norm of {clip.norm:.3g}")
    return f"{name}={strength:g}: cut from a norm of {clip.norm:.3g} on ({clip.scope})"


def _cut(bench: Bench) -> Clip:
    """The clip of the subject as it is, or at a small strength of its knob."""
    clip = _found(bench)
    if clip.norm is None and knob(bench) is not None:
        clip = _found(bench, 0.5)
    if clip.norm is None:
        raise NotApplicable("no gradient is cut before the moments: see clip_bounds")
    return clip


def _direction(bench: Bench) -> str:
    clip = _cut(bench)
    if clip.scope == "unknown":
        raise NotApplicable("no leaf of the state has the shape of a parameter")
    if clip.scope != "global norm":
        part = "each leaf is" if clip.scope == "leaf" else "parts of a leaf are"
        raise CheckFailed(f"{part} cut apart from the others: the gradient is turned")
    return "a cut gradient keeps its direction: all leaves shrink together"


def _nonfinite(bench: Bench) -> str:
    updates = updates_of(bench)
    probe = _Probe(updates)
    big = int(np.argmax([g.size for g in probe.direction]))
    said = []
    for word, value in (("NaN", np.nan), ("inf", np.inf)):
        bad = [g.copy() for g in probe.direction]
        bad[big].flat[0] = value
        state = updates.moving
        for leaves in (bad, probe.direction):
            gradients = [x.astype(dtype) for x, dtype in zip(leaves, probe.dtypes)]
            tree = jax.tree.unflatten(probe.tree, gradients)
            state = updates.after(state, updates.first, tree)
        hidden = sum(int((~np.isfinite(x)).sum()) for x in updates.others(state))
        named = zip(updates.names, jax.tree.leaves(updates.params(state)))
        shown = [name for name, x in named if not np.isfinite(np.asarray(x, np.float32)).all()]
        if hidden and not shown:
            raise CheckFailed(
                f"after one {word} in a gradient {hidden} numbers of the optimizer's state are not"
                " finite, and every parameter is: those weights have stopped to learn, or will"
            )
        spread = f"shows, in {len(shown)} of {len(updates.names)} parameters"
        said.append(f"{word} in a gradient {spread if shown else 'leaves the whole state finite'}")
    return "; ".join(said) + ": nothing is hidden in the optimizer's state"


def real_norms(bench: Bench) -> list[float]:
    """Norms of the gradient of the mean training loss, on the first batches."""
    return [
        total_size(
            jax.tree.leaves(bench.gradient(bench.batch(i), bench.key(i), True, bench.first_state))
        )
        for i in range(BATCHES)
    ]


def _acts(bench: Bench) -> str:
    clip = _found(bench)
    if clip.norm is None:
        raise NotApplicable("no gradient is cut before the moments: see clip_bounds")
    if clip.scope != "global norm":
        raise NotApplicable("the cut is not by the gradient's norm: see clip_direction")
    norms = real_norms(bench)
    cut = sum(norm > clip.norm for norm in norms)
    text = (
        f"cut at {clip.norm:.3g}; the norms of {len(norms)} real gradients at the start are"
        f" {min(norms):.3g} to {max(norms):.3g}, of which {cut} are cut"
    )
    if max(norms) < clip.norm / 100 or min(norms) > 100 * clip.norm:
        raise CheckFailed(text)
    return text


CHECKS: dict[str, Check] = {
    "clip_bounds": Check(
        holds="Clipping cuts the gradient, at the norm that it is given, before the moments.",
        symptom="One bad batch throws training back, although gradients are clipped.",
        why="A clip after the optimizer cuts an update that is as long as the learning rate, so it"
        " never acts; and the moments keep a huge gradient for 1 / (1 - b2) steps.",
        fix="Put the clip first: `optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(...))`.",
        needs=("update",),
        run=_clips,
    ),
    "clip_direction": Check(
        holds="A clipped gradient keeps its direction.",
        symptom="Training with a clip stalls or drifts where the same steps without it do not.",
        why="Cutting each leaf or each number by itself turns the gradient, by most where it is"
        " largest.",
        fix="Use `optax.clip_by_global_norm`. `optax.clip` cuts each number, and"
        " `optax.adaptive_grad_clip` each unit, as they document; where that is wanted, excuse"
        " this check.",
        needs=("update",),
        run=_direction,
    ),
    "clip_nonfinite": Check(
        holds="After a NaN or an infinity in a gradient the whole state is finite, or the"
        " parameters show it.",
        symptom="The loss is finite, but some weights never change again; or it becomes NaN steps"
        " after the bad batch.",
        why="A guard that keeps the parameters and lets the moments take the NaN hides the step at"
        " which training broke.",
        fix="Skip the whole update: `optax.apply_if_finite(optimizer, ...)` keeps parameters and"
        " moments; or clean the gradients before the optimizer, not its updates.",
        needs=("update",),
        run=_nonfinite,
    ),
    "clip_acts": Check(
        holds="The norm at which gradients are cut is within a factor of 100 of real gradients.",
        symptom="Changing the clip changes nothing; or the learning rate has another meaning with"
        " it than without.",
        why="A clip far above every gradient does nothing; one far below all of them turns the"
        " optimizer into one of fixed steps.",
        fix="Choose the norm from the distribution of the gradients' norms. Sums over tokens where"
        " means are meant are a usual cause.",
        needs=("update",),
        run=_acts,
    ),
}
