"""What training drops, and where: each draw with its rate, and attention weights without any.

Attention weights are known by their size: among the results of `exp` in the program of the training
loss they are what grows with the square of the length.
"""

import math
import re
from collections import Counter
from typing import NamedTuple

from jaxreg.audit import draws
from jaxreg.audit.bench import Bench, shorter
from jaxreg.audit.check import NotApplicable
from jaxreg.errors import one_line

SIZE, FEWER = 5, 3
"""Examples of the two batches that show which length of a shape is the batch's."""

Shape = tuple[int, ...]


class Drawn(NamedTuple):
    """Draws of one kind in the training loss.

    Attributes:
      count: how many.
      shape: of each.
      rate: the share that is dropped, None where it is not read from the program.
      place: the modules around them.
    """

    count: int
    shape: Shape
    rate: float | None
    place: str

    def __str__(self) -> str:
        rate = "rate unknown" if self.rate is None else f"rate {self.rate:.3g}"
        times = f"{self.count} x " if self.count > 1 else ""
        return f"{times}{list(self.shape)}, {rate}, in {self.place}"


def drawn(bench: Bench) -> list[Drawn]:
    """The draws of the training loss for the bench's batch, in the order of the program."""
    trace = bench.trace()
    found: list[tuple[str, Shape, float | None]] = [
        (_place(site.place), site.shape, _rate(site)) for site in trace.sites
    ]
    known = {(place, math.prod(shape)) for place, shape, _ in found}
    for draw in trace.draws:
        place = _place(draw.place)
        if (place, math.prod(draw.whole_shape)) not in known:
            found.append((place, draw.whole_shape, draw.rate))
    return [
        Drawn(count, shape, rate, place) for (place, shape, rate), count in Counter(found).items()
    ]


def _place(place: str) -> str:
    """The place without the numbers of a scan's iterations and the functions of JAX."""
    return re.sub(r"\[\d+\]|/?jit\(\w+\)", "", place).strip("/") or "the model"


def _rate(site: draws.Site) -> float:
    return round(min(site.probability, 1 - site.probability), 4)


class Looked(NamedTuple):
    """The training program with all positions, with one less, and with fewer examples.

    Attributes:
      full, cut, fewer: what each draws, and its results of `exp`.
      length: how many positions `full` has.
    """

    full: draws.Shapes
    cut: draws.Shapes
    fewer: draws.Shapes
    length: int

    def is_square(self, shape: Shape, cut: Shape) -> bool:
        """Whether what has this shape grows with the square of the length."""
        whole, part = math.prod(shape), math.prod(cut)
        return whole * (self.length - 1) ** 2 == part * self.length**2

    @property
    def weights(self) -> list[tuple[Shape, Shape, Shape]]:
        """The shapes of attention weights, in each of the three programs."""
        triples = zip(self.full.of_exp, self.cut.of_exp, self.fewer.of_exp)
        return [triple for triple in triples if self.is_square(*triple[:2])]

    @property
    def masks(self) -> list[tuple[str, Shape, Shape]]:
        """Place and shape of each mask of their size, and its shape with fewer examples."""
        triples = zip(self.full.drawn, self.cut.drawn, self.fewer.drawn)
        return [
            (place, shape, of_fewer)
            for (place, shape), (_, of_cut), (_, of_fewer) in triples
            if self.is_square(shape, of_cut)
        ]

    def drops_weights(self) -> bool:
        """Whether a draw has the size of attention weights, or is one for parts of them."""
        if self.masks:
            return True
        triples = zip(self.full.drawn, self.cut.drawn, self.fewer.drawn)
        return any(
            all(_fits(draw[1], weights) for draw, weights in zip(triple, shapes))
            for triple in triples
            for shapes in self.weights
        )

    def words(self) -> str:
        """The shape of attention weights as "[B, 2, T, T]"."""

        def word(n: int, of_cut: int, of_fewer: int) -> str:
            return "T" if n != of_cut else "B" if n != of_fewer else str(n)

        named = ["[" + ", ".join(map(word, *shapes)) + "]" for shapes in self.weights]
        return " and ".join(dict.fromkeys(named))


def _fits(shape: Shape, weights: Shape) -> bool:
    """Whether a draw may be a mask of weights: broadcast, or one number for a head."""
    if math.prod(shape) == 1:
        return False
    if shape in (weights[:2], weights[1:2]) and len(weights) == 4:  # [B, H], [H]
        return True
    pairs = list(zip(shape[::-1], weights[::-1]))
    return len(shape) <= len(weights) and all(n in (1, of_weights) for n, of_weights in pairs)


def looked(bench: Bench) -> Looked:
    """The training programs of a bench.

    Raises:
      NotApplicable: it has no positions, or takes no other number of them.
    """
    length = bench.length()
    if length is None or length < 3:
        raise NotApplicable("needs `inputs` [B, T]")

    def look() -> Looked:
        whole, few = bench.batch(0, SIZE), bench.batch(0, FEWER)
        full, cut, fewer = (bench.shapes(each) for each in (whole, shorter(whole, length), few))
        return Looked(full, cut, fewer, length)

    try:
        found = bench.once("looked", look)
    except Exception as error:
        raise NotApplicable(f"needs a loss at other lengths ({one_line(error, 60)})") from None
    untraced = [draws.NO_PROGRAM in each.unseen for each in (found.full, found.cut, found.fewer)]
    if untraced[0]:
        raise NotApplicable("the loss cannot be traced, so what it draws is not seen")
    if any(untraced):
        raise NotApplicable("needs a loss at other lengths and of fewer examples")
    return found
