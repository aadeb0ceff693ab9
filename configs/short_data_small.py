"""A language model of 30 million parameters on 10 million tokens of your own, for one accelerator:
8 layers, width 512, a vocabulary of 8,192, windows of 1,024, batch 32; bfloat16.

Command:  jaxreg train --config=configs/short_data_small.py --workdir=runs/short_data_small_one
          --config.data.path=tokens.bin
Data:     a file of uint16 ids below 8,192, or a text with --config.data.tokenizer=FILE
          (docs/data.md). Without a path it does not run: the sample is too short
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns a small modern GPT without any regularizer, fifteen passes over 9.99M tokens."""
    config = base_config.get_config("tokens")
    config.data.update(vocab_size=8192, length=1024, num_train=9760, num_eval=512)
    config.model.update(
        num_layers=8,
        width=512,
        num_heads=8,
        mlp_kind="swiglu",
        mlp_width=1365,
        positions="rotary",
        norm_kind="rms",
        causal=True,
        use_bias=False,
        tie_embeddings=True,
        init_scheme="scaled",
        dtype="bfloat16",
        scan_layers=True,
        remat="block",
        attention_dropout_rate=None,
        mlp_dropout_rate=None,
    )
    config.loss.label_smoothing_strength = None
    config.optim.update(learning_rate=1e-3, b2=0.95, warmup_steps=381)
    config.train.update(num_steps=4575, batch_size=32, members_per_device=1)
    config.eval.update(every_steps=285, curves=("validation",))
    return config
