"""Who attends in `device_speed.py`: causal attention over [B, T, H, K], in our words and in those
of the libraries that a platform may have.

Each contender is a function f(query, key, value, dropout_key) -> output. One that does not exist on
a platform raises `NotOffered` with its reason when it is traced.
"""

import importlib.util
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from experiments.benchmarks.attention_peers import RATE, jax_attention
from experiments.benchmarks.device_timing import NotOffered
from jaxreg.attention.dropout import BITS_VERSIONS

IMPLEMENTATIONS = (None, "reference", "blockwise", "pallas")
FIRST = ("jaxreg_dropout", "jaxreg", "jax_cudnn", "splash", "flax_dropout", "cudnn_dropout")
"""Contenders of whom something was promised, and cuDNN's dropout."""
LARGEST_BLOCK = 512
"""Rows and columns of a tile that jax's TPU kernels are given; their defaults, 128, are slow."""

LONGEST_FUSED = 8192
"""T up to which splash's fused backward pass is used: it holds [T / block, H, T, K] per example."""


class Contender(NamedTuple):
    """Its words in tables, its function, whether it draws dropout, and ours by which bits."""

    words: str
    attention: Callable
    drops: bool
    bits: int = 1

    @property
    def ours(self) -> bool:
        """Whether it is jaxreg: then its masks are known everywhere."""
        return self.words.startswith("jaxreg")


def name_of(implementation: str | None) -> str:
    """The contender that is jaxreg with this implementation."""
    return "jaxreg" if implementation is None else f"jaxreg_{implementation}"


def platform_of(device) -> str:
    """ "cpu", "tpu", "cuda" or "rocm": JAX calls both kinds of GPU "gpu"."""
    if device.platform != "gpu":
        return device.platform
    return "rocm" if "rocm" in device.client.platform_version.lower() else "cuda"


def contenders(platform: str) -> dict[str, Contender]:
    """All of them by name, in the order in which they compile and stand in tables."""
    made = {}
    for implementation in IMPLEMENTATIONS:
        words = "jaxreg" + (f", {implementation}" if implementation else "")
        for suffix, drops in (("", False), ("_dropout", True)):
            attention = jax_attention("jaxreg" + suffix, implementation)
            name = name_of(implementation) + suffix
            made[name] = Contender(words + (", dropout" if drops else ""), attention, drops)
    for bits in BITS_VERSIONS[1:]:
        attention = jax_attention("jaxreg_dropout", None, bits)
        words = f"jaxreg, dropout, bits {bits}"
        made[f"jaxreg_bits{bits}_dropout"] = Contender(words, attention, True, bits)
    for name, words in (("flax", "Flax Linen"), ("flax_nnx", "Flax NNX")):
        made[name] = Contender(words, jax_attention(name), False)
        dropping = jax_attention(f"{name}_dropout")
        made[f"{name}_dropout"] = Contender(f"{words}, dropout", dropping, True)
    others = {
        "jax_xla": ("jax.nn, xla", partial(jax_nn, "xla", platform), False),
        "jax_cudnn": ("jax.nn, cudnn", partial(jax_nn, "cudnn", platform), False),
        "cudnn_dropout": ("cuDNN, dropout", partial(cudnn_dropout, platform), True),
        "splash": ("jax splash", partial(splash, platform), False),
        "flash": ("jax flash", partial(flash, platform), False),
        "tokamax": ("tokamax", tokamax, False),
        "tokamax_dropout": ("tokamax splash, dropout", partial(tokamax_dropout, platform), True),
    }
    made |= {name: Contender(*other) for name, other in others.items()}
    return {name: made[name] for name in (*FIRST, *(name for name in made if name not in FIRST))}


def only_on(wanted: str, platform: str, what: str) -> None:
    """Raises NotOffered on another platform than the wanted one."""
    if platform != wanted:
        raise NotOffered(f"{what} exists for {wanted} only; this is {platform}")


def jax_nn(implementation: str, platform: str, query, key, value, dropout_key):
    """jax.nn.dot_product_attention, which has no dropout."""
    import jax

    if implementation == "cudnn":
        only_on("cuda", platform, "cuDNN")
    return jax.nn.dot_product_attention(
        query, key, value, is_causal=True, implementation=implementation
    )


def cudnn_dropout(platform: str, query, key, value, dropout_key):
    """cuDNN's own dropout, which JAX has behind no public name: fixed seed, not replayable."""
    only_on("cuda", platform, "cuDNN")
    try:
        from jax._src.cudnn import fused_attention_stablehlo as cudnn
    except ImportError as error:
        raise NotOffered(f"this JAX has it nowhere: {error}") from None
    return cudnn.dot_product_attention(
        query,
        key,
        value,
        scale=1 / math.sqrt(query.shape[-1]),
        mask_type=cudnn.MaskType.CAUSAL,
        dropout_rate=RATE,
    )


def heads_first(x):
    """[B, T, H, K] as [B, H, T, K], and back."""
    return x.swapaxes(1, 2)


def scaled(query):
    """The query over sqrt(K), for functions that do not scale."""
    return (query / math.sqrt(query.shape[-1])).astype(query.dtype)


def splash(platform: str, query, key, value, dropout_key):
    """jax's splash attention for TPU, with its fused backward pass where that fits."""
    import jax
    from jax.experimental.pallas.ops.tpu import splash_attention as kernels

    only_on("tpu", platform, "splash attention")
    t, heads = query.shape[1:3]
    block, fused = min(LARGEST_BLOCK, t), t <= LONGEST_FUSED
    own = ("block_q", "block_kv", "block_kv_compute")
    dkv = ("block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute")
    dq = () if fused else ("block_q_dq", "block_kv_dq")
    sizes = kernels.BlockSizes(
        use_fused_bwd_kernel=fused, **dict.fromkeys((*own, *dkv, *dq), block)
    )
    mask = kernels.MultiHeadMask([kernels.CausalMask((t, t))] * heads)
    kernel = kernels.make_splash_mha_single_device(mask, block_sizes=sizes)
    return heads_first(jax.vmap(kernel)(*map(heads_first, (scaled(query), key, value))))


def flash(platform: str, query, key, value, dropout_key):
    """jax's older flash attention for TPU."""
    from jax.experimental.pallas.ops.tpu import flash_attention as kernels

    only_on("tpu", platform, "flash attention")
    block = min(LARGEST_BLOCK, query.shape[1])
    own = ("block_q", "block_k_major", "block_k")
    dkv = ("block_q_major_dkv", "block_k_major_dkv", "block_k_dkv", "block_q_dkv")
    dq = ("block_k_major_dq", "block_k_dq", "block_q_dq")
    out = kernels.flash_attention(
        *map(heads_first, (query, key, value)),
        causal=True,
        sm_scale=1 / math.sqrt(query.shape[-1]),
        block_sizes=kernels.BlockSizes(block_b=1, **dict.fromkeys((*own, *dkv, *dq), block)),
    )
    return heads_first(out)


def installed_tokamax():
    """The package.

    Raises:
      NotOffered: it is not installed, or does not load here.
    """
    if importlib.util.find_spec("tokamax") is None:
        raise NotOffered("tokamax is not installed: pip install tokamax")
    try:
        import tokamax
    except Exception as error:
        raise NotOffered(f"tokamax does not load: {error}") from None
    return tokamax


def tokamax(query, key, value, dropout_key):
    """tokamax as it chooses itself; its public function has no dropout."""
    return installed_tokamax().dot_product_attention(query, key, value, is_causal=True)


def tokamax_dropout(platform: str, query, key, value, dropout_key):
    """tokamax's splash attention for TPU with the hardware's random numbers; behind no public
    name. Examples and heads are one axis there, so that each has its own mask.
    """
    only_on("tpu", platform, "tokamax's attention with dropout")
    installed_tokamax()
    try:
        from tokamax._src.ops.experimental.tpu.splash_attention import (
            splash_attention_kernel as kernels,
        )
        from tokamax._src.ops.experimental.tpu.splash_attention import (
            splash_attention_mask as masks,
        )
    except ImportError as error:
        raise NotOffered(f"this tokamax has it nowhere: {error}") from None
    b, t, heads, width = query.shape
    block = min(LARGEST_BLOCK, t)
    tiles = ("block_q", "block_kv", "block_q_dkv", "block_kv_dkv")
    grid = ("dropout_block_q", "dropout_block_kv")
    config = kernels.SplashConfig(dropout_rate=RATE, **dict.fromkeys((*tiles, *grid), block))
    kernel = kernels.make_splash_mha_single_device(masks.CausalMask((t, t)), config=config)
    flat = (heads_first(x).reshape(b * heads, *x.shape[1::2]) for x in (scaled(query), key, value))
    out = kernel(*flat, prng_key=dropout_key)
    return heads_first(out.reshape(b, heads, t, width))
