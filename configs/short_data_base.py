"""A language model of 150 million parameters on 100 million tokens of your own, for accelerators:
16 layers, width 768, GPT-2's vocabulary, windows of 1,024, batch 128 in 16 parts; bfloat16.

Command:  jaxreg train --config=configs/short_data_base.py --workdir=runs/short_data_base_one
          --config.data.path=tokens.bin
Data:     a file of uint16 ids of GPT-2's tokenizer, or a text with --config.data.tokenizer=FILE
          (docs/data.md). Without a path it does not run: the sample is too short
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns a modern GPT without any regularizer, fifteen passes over 100M tokens."""
    config = base_config.get_config("tokens")
    config.data.update(vocab_size=50304, length=1024, num_train=97664, num_eval=512)
    config.model.update(
        num_layers=16,
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
        attention_dropout_rate=None,
        mlp_dropout_rate=None,
    )
    config.loss.label_smoothing_strength = None
    config.optim.update(learning_rate=6e-4, b2=0.95, warmup_steps=953)
    config.train.update(num_steps=11445, batch_size=128, accumulate_steps=16, members_per_device=1)
    config.eval.update(every_steps=715, curves=("validation",))
    return config
