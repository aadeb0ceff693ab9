"""The compile cliff: XLA on CPU compiles chained unrolled Threefry in exponential time, so a full
step must still compile.
"""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import jax, jax.numpy as jnp
from jaxreg.study.design.components import model_fields
from jaxreg.study.design.model_section import transformer

sizes = dict(vocab_size=16, num_outputs=16, num_layers=4, width=16, num_heads=2, mlp_width=32)
sizes |= dict(max_length=8)
names = [name for name in model_fields("transformer") if name.endswith("_rate")]
rates = dict.fromkeys(names, 0.1) | dict(logit_softcap=5.0)
assert len(rates) == 10

def loss(params, rates, key, tokens):
    model = transformer(**sizes, **rates)
    step_key = jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(key), 1), 2)
    return jnp.sum(model.apply(params, tokens, train=True, dropout_key=step_key) ** 2)

tokens = jax.ShapeDtypeStruct((4, 8), jnp.int32)
words = jax.ShapeDtypeStruct((2,), jnp.uint32)
plain = transformer(**sizes)
params = jax.eval_shape(plain.init, jax.random.key(0), tokens)
jax.jit(jax.value_and_grad(loss)).lower(params, rates, words, tokens).compile()
print("compiled")
"""


@pytest.mark.system
def test_a_training_step_with_every_site_on_compiles():
    """Seconds are normal; where keys are chained it takes longer than anyone waits. The bound is
    generous, it is no speed test.
    """
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout == "compiled\n", done.stderr[-2000:]
