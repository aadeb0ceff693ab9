"""How much of a device's peak the training of large models uses: model FLOPs utilization (MFU)."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass
class Utilization:
    """Sums over the training chunks whose FLOP are counted; others leave it as it is.

    Attributes:
      devices: that share the work.
      flop: of all of them (`step_flop`). seconds: of training. known_flop: in the chunks on devices
        whose peak is known, and most_flop: what these devices could have done meanwhile.
    """

    devices: int = 1
    flop: float = 0.0
    seconds: float = 0.0
    known_flop: float = 0.0
    most_flop: float = 0.0
    _step_flop: float = 0.0
    _peak: float | None = None

    def wave(self, step_flop: float | int, peak: float | int | None) -> None:
        """Other members train from now on.

        Args:
          step_flop: FLOP of a step of one member, 0 where they are not counted.
          peak: FLOP/s of one device, None where it is not known.
        """
        self._step_flop, self._peak = step_flop, peak

    def chunk(self, model_steps: int, seconds: float) -> None:
        """Adds a chunk of training."""
        flop = model_steps * self._step_flop
        if not flop:
            return
        self.flop += flop
        self.seconds += seconds
        if self._peak is not None:
            self.known_flop += flop
            self.most_flop += seconds * self.devices * self._peak

    @property
    def flop_per_second(self) -> float | None:
        """Of one device; None where nothing was counted."""
        return self.flop / (self.seconds * self.devices) if self.seconds > 0 else None

    @property
    def mfu(self) -> float | None:
        """The share of the peak; None where no device's peak is known."""
        return self.known_flop / self.most_flop if self.most_flop > 0 else None

    def row(self) -> dict[str, float]:
        """The keys of a machine row: "flop_per_second", "mfu", each where it is known."""
        found = {"flop_per_second": self.flop_per_second, "mfu": self.mfu}
        return {name: float(f"{value:.4g}") for name, value in found.items() if value is not None}


def utilization_text(row: Mapping[str, Any]) -> str:
    """What `Utilization.row` says, in words; "" where it has nothing."""
    if "flop_per_second" not in row:
        return ""
    text = f"{row['flop_per_second'] / 1e9:,.3g} GFLOP/s a device"
    if row["flop_per_second"] >= 1e12:
        text = f"{row['flop_per_second'] / 1e12:,.3g} TFLOP/s a device"
    return f"{text}, MFU {100 * row['mfu']:.3g}%" if "mfu" in row else text
