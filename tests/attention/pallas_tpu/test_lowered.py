"""Which program a call is lowered to on each platform, on a machine that has none of them."""

import contextlib

import jax
import jax.export
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import AttentionDropout, dot_product_attention
from tests.helpers import attention_calls as calls
from tests.helpers.attention_calls import Call
from tests.helpers.kernels import by_tpu

pytestmark = pytest.mark.filterwarnings("ignore:The Pallas Triton backend:DeprecationWarning")
TPU_KERNEL, GPU_KERNEL = "tpu_custom_call", "__gpu$xla.gpu.triton"
ANY = [jax.export.DisabledSafetyCheck.custom_call(name) for name in (TPU_KERNEL, GPU_KERNEL)]


def lowered(function, platform, *arrays) -> str:
    """The text of a program with the output and all gradients, for a platform."""

    def both(*arrays):
        out, back = jax.vjp(function, *arrays)
        return out, back(out)

    exported = jax.export.export(jax.jit(both), platforms=[platform], disabled_checks=ANY)
    return exported(*arrays).mlir_module()


def by_name(implementation, length, width=8, dtype="float32"):
    x = jnp.zeros((1, length, 2, width), dtype)

    def attention(query, key, value):
        return dot_product_attention(
            *(query, key, value),
            dropout=AttentionDropout(0.1),
            dropout_key=jax.random.key(0),
            implementation=implementation,
        )

    return attention, (x, x, x)


@pytest.mark.parametrize(
    "implementation, length, platform, kernel",
    [
        ("pallas", 8, "tpu", TPU_KERNEL),
        (None, 300, "tpu", TPU_KERNEL),
        (None, 300, "cpu", None),
        (None, 300, "cuda", None),
        (None, 8, "tpu", None),
        ("blockwise", 300, "tpu", None),
    ],
)
def test_the_platform_that_is_lowered_for_chooses(implementation, length, platform, kernel):
    function, arrays = by_name(implementation, length)
    text = lowered(function, platform, *arrays)
    found = {name for name in (TPU_KERNEL, GPU_KERNEL) if name in text}
    assert found == ({kernel} if kernel else set())


@pytest.mark.parametrize("width, dtype", [(300, "float32"), (8, "float16")])
def test_none_takes_blockwise_for_what_the_kernels_cannot_do(width, dtype):
    function, arrays = by_name(None, 300, width, dtype)
    assert TPU_KERNEL not in lowered(function, "tpu", *arrays)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_on_arrays_that_xla_divides_there_are_no_kernels(kind):
    """JAX refuses a program with a TPU kernel that XLA would have to divide."""
    mesh = jax.make_mesh((2,), ("data",), (kind,), devices=jax.devices()[:2])
    place = NamedSharding(mesh, PartitionSpec("data"))
    x = jax.ShapeDtypeStruct((2, 300, 2, 8), jnp.float32, sharding=place)
    has_kernel = kind == AxisType.Explicit
    function, _ = by_name(None, 300)
    text = jax.export.export(jax.jit(function), platforms=["tpu"], disabled_checks=ANY)(x, x, x)
    assert (TPU_KERNEL in text.mlir_module()) == has_kernel
    function, _ = by_name("pallas", 300)
    told = "Auto axes data of a mesh; the kernels need Explicit axes or shard_map; allowed: None,"
    with contextlib.nullcontext() if has_kernel else pytest.raises(ValueError, match=told):
        jax.export.export(jax.jit(function), platforms=["tpu"], disabled_checks=ANY)(x, x, x)


def test_by_name_it_is_refused_where_there_is_no_kernel():
    function, arrays = by_name("pallas", 8)
    with pytest.raises(ValueError, match="'pallas' on this platform, cpu; it needs a TPU or a GPU"):
        function(*arrays)


@pytest.mark.short_cases("causal, dropout")
@pytest.mark.parametrize("name", calls.SETTINGS)
def test_every_setting_lowers_for_tpu(name):
    call = Call(2, 530, 300, 4, 2, 64, 48)
    settings = calls.settings_of(call)[name]

    def run(query, key, value):
        return by_tpu(query, key, value, interpret=False, **settings)

    text = lowered(run, "tpu", *call.inputs())
    assert text.count(TPU_KERNEL) == 2 + (
        settings.get("dropout", None) is not None and (settings["dropout"].stage == "logits")
    )


@pytest.mark.system
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("width", [5, 64, 80, 128, 256])
def test_every_width_and_dtype_lowers_for_tpu(width, dtype):
    call = Call(1, 40, 300, 3, 1, width, width, dtype)
    settings = calls.settings_of(call)["causal, dropout"]

    def run(query, key, value):
        return by_tpu(query, key, value, interpret=False, **settings)

    assert TPU_KERNEL in lowered(run, "tpu", *call.inputs())
