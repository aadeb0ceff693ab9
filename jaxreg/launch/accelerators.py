"""The table of accelerator types: runtime versions, hosts, and their names in other engines."""

import dataclasses
import re

from jaxreg.errors import UserErrors, nearest

RUNTIMES = "https://cloud.google.com/tpu/docs/runtimes"
IRONWOOD = "https://cloud.google.com/tpu/docs/tpu7x"


@dataclasses.dataclass(frozen=True)
class Generation:
    """One generation of TPUs.

    Attributes:
      runtime: the software version that Cloud TPU boots for JAX.
      unit: what the number in a type counts: "cores" (two on a chip) or "chips".
      chips_per_host: in a slice of several hosts.
      alone: chip numbers that one host has by itself.
      gke: value of GKE's node selector.
      dimensions: of a topology.
      example: a type of it.
    """

    runtime: str
    unit: str
    chips_per_host: int
    alone: tuple[int, ...]
    gke: str
    dimensions: int
    example: str


GENERATIONS = {
    "v2": Generation("tpu-ubuntu2204-base", "cores", 4, (4,), "", 2, "v2-8"),
    "v3": Generation("tpu-ubuntu2204-base", "cores", 4, (4,), "tpu-v3-slice", 2, "v3-8"),
    "v4": Generation("tpu-ubuntu2204-base", "cores", 4, (4,), "tpu-v4-podslice", 3, "v4-8"),
    "v5litepod": Generation(
        "v2-alpha-tpuv5-lite", "chips", 4, (1, 4, 8), "tpu-v5-lite-podslice", 2, "v5litepod-8"
    ),
    "v5p": Generation("v2-alpha-tpuv5", "cores", 4, (4,), "tpu-v5p-slice", 3, "v5p-8"),
    "v6e": Generation("v2-alpha-tpuv6e", "chips", 4, (1, 4, 8), "tpu-v6e-slice", 2, "v6e-8"),
    "tpu7x": Generation("", "cores", 4, (4,), "tpu7x", 3, "tpu7x-8"),
}
"""Prefix of the type -> its generation. No runtime: Cloud TPU does not have it."""

_ALIASES = {
    "v5e": "v5litepod",
    "v7x": "tpu7x",
    "v7": "tpu7x",
    "ironwood": "tpu7x",
    "trillium": "v6e",
}
_TOPOLOGIES = {
    2: {
        1: "1x1",
        4: "2x2",
        8: "2x4",
        16: "4x4",
        32: "4x8",
        64: "8x8",
        128: "8x16",
        256: "16x16",
        512: "16x32",
        1024: "32x32",
    },
    3: {
        4: "2x2x1",
        8: "2x2x2",
        16: "2x2x4",
        32: "2x4x4",
        64: "4x4x4",
        128: "4x4x8",
        256: "4x8x8",
        512: "8x8x8",
        1024: "8x8x16",
        2048: "8x16x16",
        4096: "16x16x16",
    },
}


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One accelerator type.

    Attributes:
      type: as Cloud TPU calls it, "v5litepod-16".
      runtime: software version, "" where Cloud TPU has none.
      chips, hosts: of a slice.
      gke, topology: GKE's node selectors; "" where GKE has none.
    """

    type: str
    runtime: str
    chips: int
    hosts: int
    gke: str
    topology: str


def accelerator(text: str) -> Accelerator:
    """The accelerator of a type such as "v5litepod-16".

    Raises:
      UserErrors: no such type; one line with the reason and where the documentation is.
    """
    match = re.fullmatch(r"([a-z0-9]+)-([1-9][0-9]*)", text)
    prefix, number = (match[1], int(match[2])) if match else (text.partition("-")[0], 0)
    if prefix in _ALIASES:
        known = GENERATIONS[_ALIASES[prefix]].example
        called = f"is called {_ALIASES[prefix]}-N, such as {known}"
        raise UserErrors([f"--accelerator_type={text}: {called}; see {RUNTIMES}"])
    if prefix not in GENERATIONS or not match:
        examples = [generation.example for generation in GENERATIONS.values()]
        unknown = f"no accelerator type known here{nearest(text, examples)}"
        raise UserErrors([f"--accelerator_type={text}: {unknown}; see {RUNTIMES}"])
    generation = GENERATIONS[prefix]
    chips = number // 2 if generation.unit == "cores" else number
    if (generation.unit == "cores" and number % 8) or (
        chips not in generation.alone and chips % generation.chips_per_host
    ):
        wrong = f"the number counts {generation.unit}, and no slice has {number} of them"
        raise UserErrors([f"--accelerator_type={text}: {wrong}; see {RUNTIMES}"])
    hosts = 1 if chips in generation.alone else chips // generation.chips_per_host
    topology = _TOPOLOGIES[generation.dimensions].get(chips, "")
    return Accelerator(text, generation.runtime, chips, hosts, generation.gke, topology)


def cloud_tpu(text: str) -> Accelerator:
    """As `accelerator`, of a type that the Cloud TPU API has.

    Raises:
      UserErrors: no such type, or one that only Compute Engine and GKE have.
    """
    found = accelerator(text)
    if not found.runtime:
        raise UserErrors(
            [
                f"--accelerator_type={text}: the Cloud TPU API does not have TPU7x and later ones;"
                f" they need GKE (jaxreg launch gke --accelerator_type={text}) or Compute Engine;"
                f" see {IRONWOOD}"
            ]
        )
    return found
