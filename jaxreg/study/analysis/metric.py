"""What a comparison is judged by: accuracy, or the loss in nats."""

import dataclasses
import math
from typing import TypeGuard


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number of a run on a view, and how it is shown.

    Attributes:
      name: the value of `Experiment.metric`.
      title: of the number, such as "loss".
      level_unit: of a number as it is shown. unit: of a difference.
      scale: a number times the scale is shown. digits: behind the point.
      higher_is_better: which way.
    """

    name: str
    title: str
    level_unit: str
    unit: str
    scale: float
    digits: int
    higher_is_better: bool

    @property
    def direction(self) -> int:
        """+1 where a higher number is better, else -1."""
        return 1 if self.higher_is_better else -1

    def number(self, value: float | int | None) -> str:
        """Without its unit: .7213 -> 72.1; "-" where there is none."""
        return f"{self.scale * value:.{self.digits}f}" if _known(value) else "-"

    def change(self, value: float | int | None) -> str:
        """A difference with its sign, without its unit: .0713 -> +7.1; "-" where there is none."""
        return f"{self.scale * value:+.{self.digits}f}" if _known(value) else "-"

    def margin(self, value: float | int) -> str:
        """With its unit: 5 points, 0.02 nats."""
        shown = f"{100 * value:.0f}" if self.name == "accuracy" else f"{self.scale * value:.3g}"
        return f"{shown} {self.unit}"


def _known(value: float | int | None) -> TypeGuard[float | int]:
    return value is not None and math.isfinite(value)


ACCURACY = Metric("accuracy", "accuracy", "%", "points", 100.0, 1, True)
LOSS = Metric("loss", "loss", "nats", "nats", 1.0, 3, False)
BEST_LOSS = Metric("best_loss", "lowest loss", "nats", "nats", 1.0, 3, False)

METRICS = {each.name: each for each in (ACCURACY, LOSS, BEST_LOSS)}
"""Name -> metric. loss: of the kept parameters; best_loss: the lowest of the evaluations."""
