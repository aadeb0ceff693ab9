"""The GPU kernels compiled for an H100 by XLA's CUDA plugin: no GPU and no driver is needed.

What comes out is machine code and its memory; that it runs is not seen here.
"""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxreg import AttentionDropout
from jaxreg.attention.pallas_gpu.plan import chosen_tiles
from jaxreg.study.planning import targets
from tests.helpers import attention_calls as calls
from tests.helpers.attention_calls import Call
from tests.helpers.kernels import by_gpu

pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings("ignore:The Pallas Triton backend:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def device():
    """The sharding of a whole array on one H100 that is not there."""
    found = importlib.util.find_spec("jax_plugins")
    if found is None or importlib.util.find_spec("jax_plugins.xla_cuda13") is None:
        pytest.skip("needs the extra aot-cuda: jax-cuda13-plugin is not installed")
    try:
        devices = targets.devices_of(targets.TARGETS["h100-1"])
    except NotImplementedError:
        # Without a driver, the plugin registers only where JAX is told not to use it.
        pytest.skip("needs JAX_PLATFORMS=cpu: the CUDA plugin has not been registered")
    return NamedSharding(Mesh(np.array(devices), ("d",)), PartitionSpec())


def compiled(device, call, options=None, **settings):
    """The compiled program with the output and all gradients, at a traced rate."""

    def both(rate, cotangent, *arrays):
        given = settings
        if "dropout" not in settings:
            given = settings | {"dropout": AttentionDropout(rate)}
        out, back = jax.vjp(lambda *x: by_gpu(*x, tiles=None, interpret=False, **given), *arrays)
        return out, back(cotangent)

    def shape(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device)

    inputs = jax.eval_shape(lambda: (jnp.float32(0.1), call.cotangent(), *call.inputs()))
    with jax.sharding.use_abstract_mesh(device.mesh.abstract_mesh):
        program = jax.jit(both, out_shardings=device).lower(*map(shape, inputs))
    return program.compile(compiler_options=options)


LENGTHS = (2048, 8192, 32768)


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("length", LENGTHS)
def test_memory_grows_with_the_length_and_not_with_its_square(device, length, width):
    call = Call(1, length, length, 2, 2, width, width, "bfloat16")
    memory = compiled(device, call, is_causal=True).memory_analysis()
    strip = 2 * call.h * length * width
    # The gradients of the output, divided by the sums of the rows; and four numbers a row.
    assert memory.temp_size_in_bytes <= 2 * strip + 32 * call.h * length


@pytest.mark.parametrize(
    "name",
    [
        "rows that read nothing",
        "packed documents, causal",
        "DropKey",
        "one bias, droppable",
        "spans shared by heads",
    ],
)
def test_settings_compile(device, name):
    call = Call(1, 300, 200, 4, 2, 64, 64, "bfloat16")
    settings = calls.settings_of(call)[name]
    assert "custom-call" in compiled(device, call, **settings).as_text()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("width", [80, 256])
def test_other_widths_and_dtypes_compile(device, width, dtype):
    call = Call(1, 256, 256, 2, 1, width, width, dtype)
    assert "custom-call" in compiled(device, call, is_causal=True).as_text()


SPILLED = 64
"""Bytes that a kernel may spill: a few registers, of 255 x 4 bytes a thread."""


def assembler():
    own = importlib.util.find_spec("nvidia")
    places = [Path(x) for x in own.submodule_search_locations] if own else []
    found = [x for place in places for x in place.glob("*/bin/ptxas")]
    return str(found[0]) if found else shutil.which("ptxas")


@pytest.mark.parametrize("width", [64, 128])
def test_hardly_a_register_is_spilled_and_bits_are_drawn_once(device, width, tmp_path):
    ptxas = assembler()
    if ptxas is None:
        pytest.skip("needs ptxas, of the extra aot-cuda (nvidia-cuda-nvcc)")
    call = Call(1, 2048, 2048, 2, 2, width, width, "bfloat16")
    options = {"xla_dump_to": str(tmp_path), "xla_dump_emitter_re": "ptx"}
    compiled(device, call, options, is_causal=True)
    spilled, rotations = {}, {}
    for path in tmp_path.glob("*.ptx"):
        text = path.read_text()
        name = re.search(r"\.entry (jaxreg_attention\w+)\(", text)
        if name is None:
            continue
        rotations[name[1]] = text.count("shf.l.wrap")
        command = [ptxas, "-v", "-arch=sm_90a", str(path), "-o", str(tmp_path / "out.cubin")]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        spilled[name[1]] = int(re.search(r"(\d+) bytes spill stores", report)[1])
    if not spilled:
        pytest.skip("XLA wrote no PTX: its flags for that are undocumented")
    assert len(spilled) == 3
    assert max(spilled.values()) <= SPILLED, spilled
    # One Threefry of 13 rounds for four connections, in each of the two loops over tiles.
    tiles = chosen_tiles(width, jnp.dtype("bfloat16"))
    kernels = {"forward": tiles.forward, "queries": tiles.queries, "keys": tiles.keys}
    for name, found in rotations.items():
        tile = kernels[name.rpartition("_")[2]]
        calls = tile.groups * tile.keys // (32 * tile.warps)
        assert 0 < found <= 2 * 13 * calls, name
