"""One call of the kernels of TPU and GPU for tests, in tiles that few positions fill."""

import jax.numpy as jnp

from jaxreg.attention import masks
from jaxreg.attention.inputs import inputs_of
from jaxreg.attention.pallas_gpu import kernel as gpu
from jaxreg.attention.pallas_gpu.plan import Tile, Tiles
from jaxreg.attention.pallas_tpu import kernel as tpu
from tests.helpers.attention_calls import KEY

GPU_TILES = Tiles(Tile(2, 4), Tile(2, 4), Tile(1, 8))
"""Tiles of 8 x 4 and 4 x 8: the last ones of a short sequence are cut."""
TPU_TILES = {"QUERY_BLOCK": 64, "KEYS": {0: (256, 64), 1: (256, 32), 2: (256, 64)}, "EDGE": 128}
"""Tiles of 64 x 256; what a mask cuts is computed in parts of 128 keys."""


def use_small_tpu_tiles(monkeypatch) -> None:
    """The TPU kernels take `TPU_TILES`."""
    for name, size in TPU_TILES.items():
        monkeypatch.setattr(tpu, name, size)


def by_gpu(*arrays, tiles=GPU_TILES, **settings):
    """The call by the GPU kernels, interpreted unless `interpret=False`."""
    return _by_kernel(gpu, *arrays, tiles=tiles, **settings)


def by_tpu(*arrays, **settings):
    """The call by the TPU kernels, interpreted unless `interpret` says otherwise."""
    return _by_kernel(tpu, *arrays, **settings)


def _by_kernel(kernel, query, key, value, bias=None, logit_softcap=None, **settings):
    dropout = settings.pop("dropout", None)
    words = None
    if dropout is not None:
        b, _, h, _ = query.shape
        words = masks.mask_words(dropout, KEY, None, b, jnp.arange(h))
    settings = {"is_causal": False, "scale": 0.3, "interpret": True} | settings
    arrays = (settings.pop(name, None) for name in ("mask", "droppable"))
    options = {name: settings.pop(name) for name in ("interpret", "tiles") if name in settings}
    inputs = inputs_of(
        *(query, key, value, bias, *arrays, words, dropout), logit_softcap=logit_softcap, **settings
    )
    return kernel.attention(*inputs, **options)
