"""The accelerators that `jaxreg plan` compiles for, without one at hand.

A figure is of one device as JAX counts them: a chip, but half of one on TPU7x, whose two
TensorCores are two devices. The two of a v4 or v5p chip work as one device ("megacore").
"""

import dataclasses
import importlib.util
from collections.abc import Mapping
from typing import Any

from jaxreg.errors import UserErrors
from jaxreg.study.engine import peaks

GIB = 2**30
_TPU = "https://docs.cloud.google.com/tpu/docs"
_H100 = "https://www.nvidia.com/en-us/data-center/h100/"
_PRECISION = "https://docs.jax.dev/en/latest/_autosummary/jax.lax.Precision.html"

_H100_CONFIG = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


@dataclasses.dataclass(frozen=True)
class Target:
    """One accelerator.

    Attributes:
      platform: "tpu" or "cuda", the compiler.
      topology: its name for `jax.experimental.topologies.get_topology_desc`.
      devices: as JAX counts them. devices_per_host: of them on one host.
      memory: bytes of HBM of a device. kept_free: share of it that a plan leaves free. kept_for:
        why.
      peak: dtype of the products -> FLOP/s of a device.
      source: where memory and peak are from.
      environment: what libtpu reads when it loads.
      options: of the topology, besides its name.
    """

    platform: str
    topology: str
    devices: int
    devices_per_host: int
    memory: int
    kept_free: float
    kept_for: str
    peak: Mapping[str, float]
    source: str
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def usable(self) -> float:
        """Bytes of a device that a plan may use."""
        return self.memory * (1 - self.kept_free)

    @property
    def hosts(self) -> int:
        """How many machines it has."""
        return -(-self.devices // self.devices_per_host)


def _tpu(
    topology: str, devices: int, memory: int, peak: Mapping[str, float], page: str, **more: Any
) -> Target:
    """A TPU slice of one host."""
    return Target(
        platform="tpu",
        topology=topology,
        devices=devices,
        devices_per_host=devices,
        memory=memory,
        kept_free=0.1,
        kept_for="the runtime and fragmentation",
        peak=peak,
        source=f"{_TPU}/{page}, {_PRECISION}",
        environment={
            # libtpu asks no metadata server and no other process for the machine it is on
            "TPU_SKIP_MDS_QUERY": "1",
            "TPU_WORKER_HOSTNAMES": "localhost",
            "TPU_ACCELERATOR_TYPE": "v5litepod-8",
            # else a second process that loads libtpu fails at a lock file
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        },
        options=more,
    )


TARGETS: dict[str, Target] = {
    "v4-8": _tpu("v4:2x2x1", 4, 32 * GIB, peaks.V4, "v4", chip_config_name="megacore"),
    "v5e-8": _tpu("v5e:2x4", 8, 16 * GIB, peaks.V5E, "v5e"),
    "v5p-8": _tpu("v5p:2x2x1", 4, 95 * GIB, peaks.V5P, "v5p"),
    "v6e-8": _tpu("v6e:2x4", 8, 32 * GIB, peaks.V6E, "v6e"),
    "tpu7x-8": _tpu("tpu7x:2x2x1", 8, 96 * GIB, peaks.TPU7X, "tpu7x"),
    "h100-1": Target(
        platform="cuda",
        topology="h100",
        devices=1,
        devices_per_host=1,
        memory=84942979072,
        kept_free=0.25,
        kept_for="JAX allocates no more (XLA_PYTHON_CLIENT_MEM_FRACTION)",
        peak=peaks.HOPPER,
        source=f"{_H100} (halved: without sparsity), {_PRECISION}",
        options={"target_config": _H100_CONFIG, "topology": "1x1x1"},
    ),
}
"""Name -> accelerator. In the names of v4, v5p and TPU7x the number counts TensorCores."""

_EXTRAS = {
    "tpu": ("aot-tpu", ("libtpu",)),
    "cuda": ("aot-cuda", ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")),
}
"""Platform -> the extra that brings its compiler, and the modules of which one is enough."""


def target_of(name: str) -> Target:
    """The accelerator of a name.

    Raises:
      UserErrors: there is none of this name, or its compiler is not installed; one line.
    """
    if name not in TARGETS:
        raise UserErrors([f"--accelerator={name}: must be one of: {', '.join(TARGETS)}"])
    target = TARGETS[name]
    extra, modules = _EXTRAS[target.platform]
    if not any(_is_installed(module) for module in modules):
        raise UserErrors(
            [f"--accelerator={name}: its compiler is not installed: pip install 'jaxreg[{extra}]'"]
        )
    return target


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package that is not there either
        return False


def devices_of(target: Target) -> list[Any]:
    """The accelerator's devices, to compile for: nothing can run on them.

    Call it in a process of its own, which has had `environment` from its start.
    """
    from jax.experimental import topologies

    found = topologies.get_topology_desc(
        platform=target.platform, topology_name=target.topology, **target.options
    )
    assert len(found.devices) == target.devices, (target.topology, found.devices)
    return list(found.devices)
