"""Which program computes attention, by the platform that a call is lowered for.

    implementation   CPU                TPU                   CUDA                  others
    "blockwise"      a few heads        all heads at once     all heads at once     as CUDA
    "pallas"         refused            `pallas_tpu`          `pallas_gpu`          refused
    "fastest"        as "blockwise"     pallas, or blockwise  as "blockwise"        as "blockwise"

"fastest" is what implementation=None takes from `api.BLOCKWISE_FROM` on. On TPUs it takes blockwise
for what the kernels cannot do, and where XLA divides the arrays by itself (`sharding.auto_axes`).
On CUDA it does not take the kernels: they have not run on a GPU, the compiler of older cards
refuses them, and `jax.export` keeps no promise for programs of Triton. The choice is made while a
program is lowered, not while it is traced: one traced function can be compiled for any platform.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import jax

from jaxreg.attention import sharding
from jaxreg.attention.blockwise import kernel as blockwise
from jaxreg.attention.inputs import Arrays, Static
from jaxreg.typing import Array

Interpreted = Literal["tpu", "gpu"]
_interpreted: list[Interpreted] = []


@contextlib.contextmanager
def interpreted(platform: Interpreted) -> Iterator[None]:
    """Runs implementation="pallas" in Pallas's interpreter, the kernels of one platform on any."""
    _interpreted.append(platform)
    try:
        yield
    finally:
        _interpreted.pop()


def now_interpreted() -> Interpreted | None:
    """The platform whose kernels are interpreted here; None: none is."""
    return _interpreted[-1] if _interpreted else None


@functools.cache
def _kernels() -> dict[Interpreted, Any]:
    """The kernels' modules: loaded when they are first needed, as Pallas takes a while to load."""
    from jaxreg.attention.pallas_gpu import kernel as gpu
    from jaxreg.attention.pallas_tpu import kernel as tpu

    return {"tpu": tpu, "gpu": gpu}


def why_not(platform: Interpreted, arrays: tuple, **options: Any) -> str | None:
    """What of a call the kernels of a platform cannot do, in one line; None: they can.

    Args:
      arrays: query, key, value, bias, mask, droppable.
      options: dropout, precision.
    """
    if platform == "tpu":
        return _kernels()["tpu"].why_not(*arrays[:3], options["dropout"])
    return _kernels()["gpu"].why_not(*arrays, precision=options["precision"])


def attention(
    implementation: str, static: Static, arrays: Arrays, interpreted: Interpreted | None
) -> Array:
    """Attention in O(T) memory, by the program of the table above.

    Args:
      implementation: "blockwise", "pallas" or "fastest".
      interpreted: the platform whose kernels are interpreted, for "pallas".
    """
    if implementation == "pallas" and interpreted is not None:
        return _kernels()[interpreted].attention(static, arrays, interpret=True)
    branches = _branches(implementation, static, arrays)
    default = branches.pop("default")
    return jax.lax.platform_dependent(arrays, default=default, **branches)


def _branches(implementation: str, static: Static, arrays: Arrays) -> dict[str, Callable]:
    """Platform -> the function of the arrays that is lowered for it."""
    for_cpu = partial(blockwise.attention, static, for_cpu=True)
    elsewhere = partial(blockwise.attention, static, for_cpu=False)
    if implementation == "blockwise":
        return {"cpu": for_cpu, "default": elsewhere}
    kernels = {
        "tpu": partial(_kernels()["tpu"].attention, static),
        "cuda": partial(_kernels()["gpu"].attention, static),
    }
    if implementation == "pallas":
        # Lowered for any other platform, Pallas refuses the TPU's kernels.
        return {"cuda": kernels["cuda"], "default": kernels["tpu"]}
    settings = {"dropout": static.dropout, "precision": static.precision}
    able = why_not("tpu", arrays[:6], **settings) is None and not sharding.auto_axes(*arrays[:3])
    return {"cpu": for_cpu, "default": elsewhere} | ({"tpu": kernels["tpu"]} if able else {})
