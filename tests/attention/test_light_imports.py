"""Attention alone needs jax, numpy and jaxtyping at run time: everything else is blocked here."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCKED = """
import sys
from importlib.metadata import packages_distributions

# The three, and what they need themselves.
ALLOWED = {"jax", "jaxlib", "numpy", "jaxtyping"} | {
    "scipy", "ml_dtypes", "opt_einsum", "wadler_lindig"
}
OTHERS = set(packages_distributions()) - ALLOWED - {"jaxreg"}
assert {"flax", "optax", "rich"} <= OTHERS


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OTHERS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocker())
"""
USE = """
import jax, jax.numpy as jnp
import jaxreg

x = jnp.ones((1, 8, 2, 4))
key = jax.random.key(0)
for implementation in ("reference", "blockwise"):
    given = {"dropout": jaxreg.AttentionDropout(0.5), "dropout_key": key}
    out = jaxreg.dot_product_attention(x, x, x, implementation=implementation, **given)
    assert out.shape == x.shape
    again = jaxreg.attention_fn(implementation=implementation)
    assert jnp.allclose(again(x, x, x, dropout_rng=key, dropout_rate=0.5), out, atol=1e-6)
n = {name: jnp.arange(4) for name in ("examples", "heads", "queries", "keys")}
assert jaxreg.keep_mask(jaxreg.AttentionDropout(0.5), key, **n).shape == (4, 4, 4, 4)

from jaxreg.attention import conformance

results = conformance.run(jaxreg.attention_fn(), checks=["plain"], quick=True)
assert results[0].status == "ok"
try:
    import flax
except ModuleNotFoundError:
    print("no flax")
"""


def test_attention_alone_needs_only_jax_numpy_and_jaxtyping():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + USE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "no flax\n"
