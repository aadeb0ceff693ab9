"""A small GPT: 12 layers, width 768, 85 million parameters and the table of tokens, in bfloat16,
with rotary positions, SwiGLU, RMSNorm, tied embeddings and no biases; scanned and rematerialized.

Command:  jaxreg train --config=configs/gpt_small.py --workdir=runs/gpt_small
Yours:    --config.data.path=my.txt --config.data.length=1024 --config.data.num_train=100000
          --config.train.num_steps=20000 --config.train.batch_size=64
          --config.train.accumulate_steps=8; the formats are in docs/data.md

Without a path it reads a small sample, in windows of 128 bytes: enough to see that it runs, on an
accelerator. `model.remat=none` is faster where the memory suffices.
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns the base config with a small GPT on TOKENS."""
    config = base_config.get_config("tokens")
    config.data.length = 128
    config.data.num_train = 32
    config.data.num_eval = 8
    config.model.update(
        num_layers=12,
        width=768,
        num_heads=12,
        mlp_kind="swiglu",
        mlp_width=2048,
        positions="rotary",
        norm_kind="rms",
        causal=True,
        use_bias=False,
        tie_embeddings=True,
        init_scheme="scaled",
        dtype="bfloat16",
        scan_layers=True,
        remat="block",
    )
    config.optim.learning_rate = 6e-4
    config.optim.b2 = 0.95
    config.optim.weight_decay = 0.1
    config.train.batch_size = 8
    config.train.members_per_device = 1
    config.eval.curves = ("train", "validation")
    return config
