"""Settings of JAX and XLA that change numbers, and where each belongs.

Tried one by one on two arms of experiments/cat_sat.py, 30 steps, one CPU device:

- `jax_threefry_partitionable`, `jax_random_seed_offset`: other random numbers from the same seed,
  so other results. A seed fixes them by law: the commands pin both (`pin`).
- `jax_enable_x64`: other results. A choice that a person may make: members have other addresses
  (`unusual`), so that float32 and float64 members never mix.
- `jax_default_matmul_precision`, `jax_default_prng_impl`: nothing on CPU, where products are
  whole and our keys name their implementation. On accelerators the first changes results, and a
  person's own piece may make keys of the second kind: both are in the address.
- XLA's flags, such as fast math, and `jax_disable_most_optimizations`: the last bits, as versions
  and processors do. They are in the fingerprint, whose change is reported and marks the run
  (`xla_flags`).

Checks and promotion modes (`jax_numpy_dtype_promotion`, `jax_debug_nans`, ...) changed nothing.
"""

import os
from typing import Any

import jax

_PINNED = {"jax_threefry_partitionable": True, "jax_random_seed_offset": 0}
_USUAL = _PINNED | {
    "jax_enable_x64": False,
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
}
_NO_NUMBERS = ("--xla_force_host_platform_device_count", "--xla_dump_")
"""Flags of XLA that change none; the number of devices stands in the fingerprint by itself."""


def pin() -> None:
    """Resets the settings that decide random numbers to their usual values."""
    for name, value in _PINNED.items():
        if hasattr(jax.config, name):
            jax.config.update(name, value)


def unusual() -> dict[str, Any]:
    """The settings that change results and differ from the usual: name -> value."""
    now = {name: getattr(jax.config, name, usual) for name, usual in _USUAL.items()}
    return {name: value for name, value in now.items() if value != _USUAL[name]}


def xla_flags() -> list[str]:
    """The flags of XLA, of the environment, that may change the last bits; sorted.

    JAX's setting that switches XLA's optimizations off stands among them.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    if jax.config.read("jax_disable_most_optimizations"):
        flags.append("jax_disable_most_optimizations")
    return sorted(flag for flag in flags if not flag.startswith(_NO_NUMBERS))
