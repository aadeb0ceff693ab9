"""What a user mistypes; type checkers report each line with an `error:` comment, and no other."""

import jax.numpy as jnp

import jaxreg
from jaxreg import AttentionDropout, attention_fn, audit, dot_product_attention
from jaxreg.nn import BlockOptions, SelfAttention

x = jnp.ones((2, 8, 4, 16))
AttentionDropout(0.1, unit="conection")  # error: the word
AttentionDropout(0.1, stage="logit")  # error: the word
AttentionDropout(0.1, share=("key",))  # error: the word
AttentionDropout(0.1, unit="head")
attention_fn(unit="heads")  # error: the word
attention_fn(kind="sigmoid")
dot_product_attention(x, x, x, droput=None)  # error: the name
dot_product_attention(x, x, x, implementation="fast")  # error: the word
dot_product_attention(x, x, x, kind="softmin")  # error: the word
dot_product_attention(x, x, x, implementation="blockwise")
BlockOptions(norm="before")  # error: the word
BlockOptions(norm="pre", norm_kind="rms")
SelfAttention(num_heads=4, droput=None)  # error: the name
jaxreg.attention_function()  # error: the name
jaxreg.attention_fn()
audit.asert_audit(len)  # error: the name
