"""The matrix products per second that a device makes at most, as its maker states them.

A figure is of one device as JAX counts them: a chip, but half of one on TPU7x, whose two
TensorCores are two devices. Products of float32 take one bfloat16 pass on a TPU and TF32 on a GPU,
as JAX's default precision is; sparsity is not counted. `study/planning/targets.py` has the sources.
"""

from collections.abc import Mapping


def _tpu(flop: float) -> dict[str, float]:
    return {"bfloat16": flop, "float32": flop}


V4, V5E, V5P = _tpu(275e12), _tpu(197e12), _tpu(459e12)
V6E, TPU7X = _tpu(918e12), _tpu(2307e12 / 2)
HOPPER = {"bfloat16": 989.5e12, "float32": 494.5e12}
"""An H100 (SXM) or H200: dtype of the products -> FLOP/s."""

PEAKS: Mapping[str, Mapping[str, float]] = {
    "TPU v4": V4,
    "TPU v5 lite": V5E,
    "TPU v5e": V5E,
    "TPU v5": V5P,
    "TPU v5p": V5P,
    "TPU v6 lite": V6E,
    "TPU v6e": V6E,
    "TPU7x": TPU7X,
    "NVIDIA H100 80GB HBM3": HOPPER,
    "NVIDIA H200": HOPPER,
}
"""`jax.Device.device_kind` -> dtype of the products -> FLOP/s of one device."""


def peak(device_kind: str, dtype: str) -> float | None:
    """FLOP/s of a device at most; None where its maker's figure is not in the table (a CPU)."""
    return PEAKS.get(device_kind, {}).get(dtype)
