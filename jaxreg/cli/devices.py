"""Starting JAX: one device per core on CPU, a compile cache that persists, no log noise of libraries."""

import hashlib
import logging
import os
import platform
import warnings
from pathlib import Path

from jaxreg.study.files import UserErrors

_NOISY = ("absl", "jax", "orbax", "flax", "etils", "tensorflow", "tensorflow_datasets", "array_record", "matplotlib")
_FORCED = "xla_force_host_platform_device_count"


def start(num_devices: int | None = None) -> None:
    """Sets JAX up and starts it; call it once everything the user typed has been checked.

    Args:
      num_devices: CPU devices to make; None makes one per core this process may use, unless JAX_NUM_CPU_DEVICES or
        XLA_FLAGS already say how many.

    Raises:
      UserErrors: `num_devices` contradicts XLA_FLAGS, or is not what a GPU or TPU machine has.
    """
    silence()
    import jax

    _persistent_cache(jax)
    _cpu_devices(jax, num_devices)
    found, kind = jax.local_device_count(), jax.default_backend()
    if num_devices is not None and found != num_devices:
        hint = "; choose some of them with CUDA_VISIBLE_DEVICES" if kind == "gpu" else ""
        raise UserErrors([f"--devices={num_devices}: JAX has {found} {kind} device(s) here{hint}"])


def silence() -> None:
    """Keeps the log lines and warnings of libraries off the screen; errors still come through."""
    for name, level in (("TF_CPP_MIN_LOG_LEVEL", "2"), ("GRPC_VERBOSITY", "ERROR"), ("TPU_MIN_LOG_LEVEL", "2")):
        os.environ.setdefault(name, level)  # read by the C++ side when it loads
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.ERROR)
    absl_logging.set_stderrthreshold("error")
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=rf"({'|'.join(_NOISY)})(\.|$)")


def cache_directory() -> Path:
    """Where compiled programs are kept: $JAXREG_CACHE, else ~/.cache/jaxreg/xla; one folder for each kind of processor.

    Code compiled for another processor may not run here, and home directories are shared.
    """
    root = os.environ.get("JAXREG_CACHE")
    root = Path(root).expanduser() if root else Path.home() / ".cache" / "jaxreg" / "xla"
    return root / hashlib.sha256(_processor().encode()).hexdigest()[:12]


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    except OSError:
        return f"{platform.machine()} {platform.processor()}"


def _persistent_cache(jax) -> None:
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        cache_directory().mkdir(parents=True, exist_ok=True)
    except OSError:  # a cache only saves time
        return
    jax.config.update("jax_compilation_cache_dir", str(cache_directory()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _cpu_devices(jax, num_devices: int | None) -> None:
    forced = _FORCED in os.environ.get("XLA_FLAGS", "")
    if forced and num_devices is not None:
        raise UserErrors([f"--devices={num_devices}: XLA_FLAGS says {_FORCED} too; give one of the two"])
    if forced or (num_devices is None and "JAX_NUM_CPU_DEVICES" in os.environ):
        return
    try:
        jax.config.update("jax_num_cpu_devices", num_devices or num_cores())
    except RuntimeError:  # JAX is running already, in a process that called main() before
        pass
