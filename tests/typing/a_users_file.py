"""What a user writes; type checkers accept it (tests/typing/test_type_checkers.py)."""

import jax
import jax.numpy as jnp

import jaxreg
from jaxreg import AttentionDropout, dot_product_attention

x = jnp.ones((2, 8, 4, 16))
dropout = AttentionDropout(0.1, unit="connection", share=("head",))
y: jax.Array = dot_product_attention(x, x, x, dropout=dropout, dropout_key=jax.random.key(0))
options = jaxreg.nn.AttentionOptions(causal=True, kind="softmax")
block = jaxreg.nn.SelfAttention(num_heads=4, dropout=dropout, options=options)
variables = block.init(jax.random.key(1), jnp.ones((2, 8, 64)))
