"""fttjax, a feature tokenizer and transformer for tables: its model, without an argument for
training.

`import fttjax` 0.1.1 fails (its __init__ imports ft_transformer from nowhere), so its file is
loaded by itself.

Needs:    pip install fttjax
Command:  jaxreg audit experiments/audits/fttjax.py
"""

import importlib.util
from pathlib import Path

import jax
import numpy as np

from jaxreg import audit

PACKAGES = ("fttjax", "flax")
NOTES = {
    "evaluation_ignores_key": "Every `nn.Dropout` is called with `deterministic=False`, and the"
    " model has no argument for evaluation: dropout is on at test time too. Not documented. ("
    "`import fttjax` fails in 0.1.1; its file was loaded by itself.)"
}


def _loaded(package, name):
    """A module of an installed package, without the package's own __init__."""
    [folder] = importlib.util.find_spec(package).submodule_search_locations
    spec = importlib.util.spec_from_file_location(name, Path(folder) / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FTTransformer = _loaded("fttjax", "ft_transformer").FTTransformer


def made(attn_dropout=0.1, ff_dropout=0.1):
    return FTTransformer(
        categories=(4, 3),
        num_continuous=3,
        dim=16,
        depth=2,
        heads=2,
        dim_head=8,
        dim_out=3,
        attn_dropout=attn_dropout,
        ff_dropout=ff_dropout,
    )


def batch(seed, size):
    draw = np.random.default_rng(seed)
    categories = np.stack([draw.integers(0, n, size) for n in (4, 3)], 1)
    numbers = draw.normal(size=(size, 3)).astype(np.float32)
    return {"categories": categories, "numbers": numbers, "labels": draw.integers(0, 3, size)}


def arguments(data):
    return data["categories"], data["numbers"]


def get_subject():
    knobs = {
        "attn_dropout": lambda rate: made(attn_dropout=rate),
        "ff_dropout": lambda rate: made(ff_dropout=rate),
    }
    return audit.linen(
        made(),
        batch,
        arguments=arguments,
        inputs=None,
        with_inputs=None,
        knobs=knobs,
        name="fttjax FTTransformer",
    )


def confirm():
    """The same row under two keys."""
    model, row = made(0.5, 0.5), arguments(batch(0, 1))
    params = model.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, *row)["params"]
    first, second = (
        model.apply({"params": params}, *row, rngs={"dropout": jax.random.key(i)})[0]
        for i in range(2)
    )
    shown = [[round(float(x), 3) for x in logits] for logits in (first, second)]
    line = f"logits of one row under two keys: {shown[0]} and {shown[1]}"
    return {"evaluation_ignores_key": line}
