"""Numbers of the judge in words: as many digits as the interval's width allows, in any unit."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeGuard

from jaxreg.study.report.forest import known

Amount = float | int | None
Ends = Sequence[Amount] | None
"""Both ends of an interval, NaN or null where there is none."""

MOST_DECIMALS = 12
SIGNIFICANT = 4  # digits of a number that has no interval


def decimals(ci95: Ends, values: Iterable[Amount] = ()) -> int:
    """Digits behind the point: two significant ones of half the interval's width.

    Args:
      ci95: both ends; None or NaN where there is none.
      values: what is shown where there is no interval: its largest gets four significant digits.
    """
    half = (ci95[1] - ci95[0]) / 2 if has_ends(ci95) else 0.0
    if half > 0:
        return _clipped(1 - math.floor(math.log10(half)))
    largest = max((abs(value) for value in values if known(value)), default=0.0)
    return _clipped(SIGNIFICANT - 1 - math.floor(math.log10(largest))) if largest > 0 else 1


def has_ends(ci95: Ends) -> TypeGuard[Sequence[float]]:
    """Whether an interval has two finite ends."""
    return ci95 is not None and all(map(known, ci95))


def number(value: Amount, digits: int) -> str:
    """3.2790; a dash where there is none."""
    return f"{value:.{digits}f}".replace("-", "−") if known(value) else "–"


def signed(value: Amount, digits: int) -> str:
    """+0.0121, −0.0121 or 0.0000: a difference."""
    if not known(value):
        return "–"
    text = f"{value:+.{digits}f}"
    return (text if float(text) else text[1:]).replace("-", "−")


def interval(ci95: Ends, digits: int) -> str:
    """[−0.0150, −0.0092] of a difference; nothing where there is none."""
    if not has_ends(ci95):
        return ""
    return f"[{signed(ci95[0], digits)}, {signed(ci95[1], digits)}]"


def p_value(p: Amount) -> str:
    """.031, < .001, or a dash where nothing was tested."""
    if not known(p):
        return "–"
    if p < 0.001:
        return "< .001"
    return "1" if p >= 0.9995 else f"{p:.{4 if p < 0.01 else 3}f}".removeprefix("0")


def _clipped(digits: int) -> int:
    return min(max(0, digits), MOST_DECIMALS)
