"""The GPU kernels lower for CUDA, forward and gradient, on a machine without it."""

import re

import jax
import jax.export
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, PartitionSpec

from jaxreg import AttentionDropout
from tests.helpers import attention_calls as calls
from tests.helpers.attention_calls import Call
from tests.helpers.kernels import by_gpu

pytestmark = pytest.mark.filterwarnings("ignore:The Pallas Triton backend:DeprecationWarning")

TRITON = "__gpu$xla.gpu.triton"
UNSTABLE = [jax.export.DisabledSafetyCheck.custom_call(TRITON)]
H100 = AbstractDevice("NVIDIA H100 80GB HBM3", num_cores=None, platform="gpu")


def for_cuda(function, *arrays, devices=1):
    """The text of `function`, compiled for CUDA as far as goes without it."""
    auto = (AxisType.Auto,)
    mesh = AbstractMesh((devices,), ("d",), axis_types=auto, abstract_device=H100)
    with jax.sharding.use_abstract_mesh(mesh):
        program = jax.export.export(jax.jit(function), platforms=["cuda"], disabled_checks=UNSTABLE)
        return program(*arrays).mlir_module()


def lowered(call, bias=None, logit_softcap=None, **settings):
    """The text of a program with the output and all gradients, for CUDA."""

    def both(cotangent, query, key, value, *more):
        more = list(more)
        arrays = [None if x is None else more.pop(0) for x in (bias, logit_softcap)]

        def run(query, key, value, *arrays):
            return by_gpu(query, key, value, *arrays, tiles=None, interpret=False, **settings)

        out, back = jax.vjp(run, query, key, value, *arrays)
        return out, back(cotangent)

    given = [x for x in (bias, logit_softcap) if x is not None]
    return for_cuda(both, call.cotangent(), *call.inputs(), *given)


@pytest.mark.short_cases("causal, dropout")
@pytest.mark.parametrize("name", calls.SETTINGS)
def test_every_setting_lowers_for_cuda(name):
    call = Call(2, 530, 300, 4, 2, 64, 48)
    settings = calls.settings_of(call)[name]
    text = lowered(call, **settings)
    bias = settings.get("bias")
    is_full = bias is not None and min(bias.shape[2:]) > 1
    assert len(re.findall(f"custom_call @{re.escape(TRITON)}", text)) == 3 + is_full
    assert "callback" not in text and "?x" not in text


@pytest.mark.system
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("width", [5, 64, 80, 128, 256])
def test_every_width_and_dtype_lowers_for_cuda(width, dtype):
    call = Call(1, 40, 300, 3, 1, width, width, dtype)
    assert TRITON in lowered(call, **calls.settings_of(call)["causal, dropout"])


def test_no_array_of_t_by_s_is_made():
    call = Call(1, 2048, 1024, 2, 2, 64, 64, "bfloat16")
    text = lowered(call, **calls.settings_of(Call())["causal, dropout"])
    shapes = re.findall(r"tensor<((?:\d+x)+)\w+>", text)
    largest = max(int(jnp.prod(jnp.array([*map(int, x.strip("x").split("x"))]))) for x in shapes)
    assert 2048 * 2 * 64 <= largest < 2048 * 1024


@pytest.mark.system
def test_in_shard_map_the_gradient_of_a_shared_bias_is_summed_over_the_devices():
    call = Call(2, 64, 64, 2, 2, 16, 16)
    bias = calls.normal(5, 1, 2, 64, 64)

    def loss(cotangent, *arrays):
        dropout = AttentionDropout(0.3)
        out = by_gpu(*arrays, dropout=dropout, is_causal=True, tiles=None, interpret=False)
        return jnp.sum(out * cotangent)

    rows, whole = PartitionSpec("d"), PartitionSpec()
    divided = jax.shard_map(
        jax.grad(loss, (1, 2, 3, 4)),
        in_specs=(rows, rows, rows, rows, whole),
        out_specs=(rows, rows, rows, whole),
    )
    text = for_cuda(divided, call.cotangent(), *call.inputs(), bias, devices=2)
    assert text.count(f"custom_call @{TRITON}") == 4
    assert text.count("all_reduce") == 1
