"""attnax's flash attention as an attention function: it takes [B, H, T, K].

Needs:    pip install attnax
Command:  python -m jaxreg.attention.conformance experiments.conformance.attnax:flash
"""

import attnax

PACKAGES = ("attnax", "flax")


def flash(query, key, value, *, mask=None, dropout_rng=None, dropout_rate=0.0, deterministic=True):
    """`attnax.flash_attention`, with the heads in its place."""
    out = attnax.flash_attention(
        *(x.swapaxes(1, 2) for x in (query, key, value)),
        mask=mask,
        dropout_rng=dropout_rng,
        dropout_rate=dropout_rate,
        deterministic=deterministic,
    )
    return out.swapaxes(1, 2)
