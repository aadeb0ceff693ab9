"""jaxreg: which regularizer makes this transformer generalize?

The packages; imports go down this list, and siblings never import one another:

    cli          the `jaxreg` command
    launch       the same command on other machines: Cloud TPU, GKE, Slurm, SkyPilot
    study        arms x seeds: configuration, running, statistics, verdicts, report
    train        one pure step, a population of members, stopping
    probe        what a trained model does: attention maps, knock-outs, ensembles, memorization
    audit        checks of anybody's training code as a black box
    store        run directories, members, checkpoints; on disk or in an object store
    distributed  the processes of one job
    nn           Flax modules: dropout, attention, blocks, transformer
    reg          regularizers that are no modules: penalties, augmentations, schedules
    data         grammars, splits, TFDS builders, batches (numpy only)
    optim        one optax chain: clips -> noise -> optimizer with decay -> schedule -> average
    losses       per-example losses (values, not means)
    metrics      sums and counts that merge exactly
    attention    position-keyed attention dropout, in pure JAX
    rng          named key streams
    batch        what a batch holds: every key, shape and dtype
    typing       array aliases, words, and the legend of dimension letters
    errors       a person's mistakes, and exit codes
    syntax       digests of Python sources by their syntax trees

The public names below load on first use, so that `import jaxreg` is nearly free.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what __getattr__ gives, for type checkers and editors
    from jaxreg import nn as nn
    from jaxreg.attention import AttentionDropout as AttentionDropout
    from jaxreg.attention import attention_fn as attention_fn
    from jaxreg.attention import dot_product_attention as dot_product_attention
    from jaxreg.attention import dropout_calls as dropout_calls
    from jaxreg.attention import keep_mask as keep_mask
    from jaxreg.study.commands.judge import judge as judge
    from jaxreg.study.commands.trained_run import load_run as load_run

__version__ = "0.2.0"

_PUBLIC = {
    "AttentionDropout": "jaxreg.attention",
    "attention_fn": "jaxreg.attention",
    "dot_product_attention": "jaxreg.attention",
    "dropout_calls": "jaxreg.attention",
    "judge": "jaxreg.study.commands.judge",
    "keep_mask": "jaxreg.attention",
    "load_run": "jaxreg.study.commands.trained_run",
}
__all__ = [
    "AttentionDropout",
    "__version__",
    "attention_fn",
    "dot_product_attention",
    "dropout_calls",
    "judge",
    "keep_mask",
    "load_run",
    "nn",
]


if not TYPE_CHECKING:  # to a type checker every name would exist

    def __getattr__(name: str) -> Any:
        if name == "nn":
            return importlib.import_module("jaxreg.nn")
        if name in _PUBLIC:
            return getattr(importlib.import_module(_PUBLIC[name]), name)
        raise AttributeError(f"module 'jaxreg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
