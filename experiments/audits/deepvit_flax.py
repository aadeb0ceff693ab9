"""deepvit-flax, a vision transformer: its model, which has no argument for training.

`import deepvit_flax` 0.0.3 fails (its __init__ asks for DeepVIT), so its file is loaded by itself.

Needs:    pip install deepvit-flax
Command:  jaxreg audit experiments/audits/deepvit_flax.py
"""

import importlib.util
from pathlib import Path

import jax
import numpy as np

from jaxreg import audit

PACKAGES = ("deepvit-flax", "flax")
NOTES = {
    "evaluation_ignores_key": "Every `nn.Dropout` is called with `deterministic=False`, and the"
    " model has no argument for evaluation: dropout is on at test time too. Not documented. Who"
    " evaluates must build the model again with rates of 0. (`import deepvit_flax` fails in 0.0.3;"
    " its file was loaded by itself.)"
}


def _loaded(package, name):
    """A module of an installed package, without the package's own __init__."""
    [folder] = importlib.util.find_spec(package).submodule_search_locations
    spec = importlib.util.spec_from_file_location(name, Path(folder) / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DeepViT = _loaded("deepvit_flax", "deepvit").DeepViT


def made(dropout=0.1):
    return DeepViT(
        image_size=8,
        patch_size=4,
        num_classes=3,
        dim=16,
        depth=2,
        heads=2,
        mlp_dim=32,
        dim_head=8,
        dropout=dropout,
        emb_dropout=0.1,
    )


def batch(seed, size):
    draw = np.random.default_rng(seed)
    images = draw.normal(size=(size, 8, 8, 3)).astype(np.float32)
    return {"inputs": images, "labels": draw.integers(0, 3, size)}


def get_subject():
    return audit.linen(
        made(), batch, inputs=None, with_inputs=None, knobs={"dropout": made}, name="deepvit-flax"
    )


def confirm():
    """The same image under two keys; there is nothing to ask for evaluation by."""
    model, image = made(0.5), batch(0, 1)["inputs"]
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    params = jax.tree.map(lambda x: x + 0.1, model.init(keys, image)["params"])  # some begin at 0
    first, second = (
        model.apply({"params": params}, image, rngs={"dropout": jax.random.key(i)})[0]
        for i in range(2)
    )
    shown = [[round(float(x), 2) for x in logits] for logits in (first, second)]
    line = f"logits of one image under two keys: {shown[0]} and {shown[1]}"
    return {"evaluation_ignores_key": line}
