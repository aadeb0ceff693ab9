"""jaxreg: which regularizer makes this transformer generalize?

The map of the package; imports go down this list, and siblings never import one another:

    cli        the `jaxreg` command
    study      arms x seeds: configuration, running, statistics, verdicts, report
    train      one pure step, a population of members, devices, checkpoints, stopping
    probe      what a trained model does: attention maps, knock-outs, ensembles, memorization,
      drift, sharpness
    nn         Flax modules: dropout, attention, blocks, transformer
    reg        what regularizes and is no module: penalties, augmentations, SAM, schedules of a
      strength
    data       grammars, splits, TFDS builders, batches (numpy only)
    optim      one optax chain: clips -> noise -> optimizer with decay -> schedule -> average
    losses     per-example losses (values, not means)
    metrics    sums and counts that merge exactly
    attention  position-keyed attention dropout, in pure JAX
    rng        named key streams
    typing     array aliases and the legend of dimension letters

The public names below load on first use, so that `import jaxreg` is nearly free.
"""

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "AttentionDropout": "jaxreg.attention",
    "attention_fn": "jaxreg.attention",
    "dot_product_attention": "jaxreg.attention",
    "keep_mask": "jaxreg.attention",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'jaxreg' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
