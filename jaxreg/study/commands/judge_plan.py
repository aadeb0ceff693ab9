"""How many seeds a comparison needs before anything is run, from a spread and a margin."""

import math

from jaxreg.study.analysis import power, statistics, two_samples
from jaxreg.study.analysis.power import POWER
from jaxreg.study.analysis.runs import Claim
from jaxreg.study.analysis.scores import LEVEL

NUM_ARMS = (1, 2, 3, 5, 10)
"""Arms beside the baseline that the table has columns for."""
CORRELATIONS = (0.5, 0.9)
"""Between an arm and the baseline at equal seeds, that the table has rows for."""


def lines(sd: float, margin: float, *, alpha: float | None, claim: Claim, looks: int) -> list[str]:
    """The table of seeds needed, as lines.

    Args:
      sd: standard deviation over the seeds of an arm, in the unit of the margin.
      margin: the smallest effect that matters, above 0.
      alpha: level of all tests together; None: .05.
      claim: what is claimed of each arm.
      looks: how many looks at growing numbers of seeds are planned.
    """
    level = LEVEL if alpha is None else alpha
    planned = f", {looks} planned looks" if looks > 1 else ""
    rows = [("arms beside the baseline", [f"{num:,}" for num in NUM_ARMS])]
    rows.append(("unpaired", [_cell(sd, margin, level, claim, num * looks) for num in NUM_ARMS]))
    for correlation in CORRELATIONS:
        cells = [_cell(sd, margin, level, claim, num * looks, correlation) for num in NUM_ARMS]
        rows.append((f"paired by seed, correlation {correlation:g}", cells))
    width = max(len(name) for name, _ in rows)
    column = max(len(cell) for _, cells in rows for cell in cells) + 2
    return [
        f"seeds of each arm for {POWER:.0%} power to see {margin:g} ({claim}) where the SD over"
        f" seeds is {sd:g}; alpha {level:g}{planned}",
        *(
            f"{name:<{width}}" + "".join(f"{cell:>{column}}" for cell in cells)
            for name, cells in rows
        ),
    ]


def _cell(
    sd: float,
    margin: float,
    alpha: float,
    claim: Claim,
    num_tests: int,
    correlation: float | None = None,
) -> str:
    sided, wanted = power.sides_and_power(claim)
    if correlation is None:
        needed = two_samples.runs_for_power(
            (sd, sd), margin, alpha=alpha, power=wanted, num_tests=num_tests, sided=sided
        )
    else:
        of_differences = sd * math.sqrt(2 * (1 - correlation))
        needed = statistics.seeds_for_power(
            of_differences, margin, alpha=alpha, power=wanted, num_tests=num_tests, sided=sided
        )
    return f"{needed:,}"
