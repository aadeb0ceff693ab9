"""What scanned layers save in compiling: a training step's gradient at several depths.

Command:  python experiments/benchmarks/scan_layers.py [--depths=3,6,12] [--output=FILE.json]

The model is as GPT-2 small in width, with rotary positions, SwiGLU, RMSNorm, tied embeddings and
dropout at three places, in bfloat16, 8 x 1,024 tokens, compiled for CPU and not run. Forms:
`unrolled`, `scanned` (`model.scan_layers`), and `scanned, block` (with `model.remat`).

- cpu_seconds: of tracing and compiling, of the process; on a busy machine fewer than a clock's.
- instructions: in the compiled program; they depend on no machine.
- temporary_bytes: activations and what else the program holds, by XLA's analysis.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from jaxreg.nn import initial_parameters  # noqa: E402, a script has no repository on its path
from jaxreg.study.design.model_section import transformer  # noqa: E402

VOCABULARY, LENGTH, BATCH = 50_304, 1024, 8
MODEL = {
    "vocab_size": VOCABULARY,
    "num_outputs": VOCABULARY,
    "width": 768,
    "num_heads": 12,
    "mlp_width": 2048,
    "max_length": LENGTH,
    "causal": True,
    "norm_kind": "rms",
    "positions": "rotary",
    "mlp_kind": "swiglu",
    "tie_embeddings": True,
    "use_bias": False,
    "dtype": "bfloat16",
    "attention_dropout_rate": 0.1,
    "residual_dropout_rate": 0.1,
    "mlp_dropout_rate": 0.1,
}
FORMS = {
    "unrolled": {},
    "scanned": {"scan_layers": True},
    "scanned, block": {"scan_layers": True, "remat": "block"},
}


def measured(depth: int, form: str, model: dict[str, Any], batch: int, length: int) -> dict:
    """The row of one depth and form."""
    own = transformer(**model, num_layers=depth, **FORMS[form])
    tokens = jax.ShapeDtypeStruct((batch, length), jnp.int32)
    params = jax.eval_shape(partial(initial_parameters, own), jax.random.key(0), tokens)

    def loss(params, tokens, key):
        logits = own.apply({"params": params}, tokens, train=True, dropout_key=key)
        log_p = jax.nn.log_softmax(logits[:, :-1])
        return -jnp.mean(jnp.take_along_axis(log_p, tokens[:, 1:, None], axis=-1))

    key, start = jax.eval_shape(jax.random.key, 0), time.process_time()
    compiled = jax.jit(jax.value_and_grad(loss)).lower(params, tokens, key).compile()
    seconds = time.process_time() - start
    return {
        "depth": depth,
        "form": form,
        "cpu_seconds": round(seconds, 2),
        "instructions": sum(" = " in line for line in compiled.as_text().splitlines()),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
    }


def main() -> None:
    """Measures, prints, and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--depths", default="3,6,12")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    rows = []
    for depth in map(int, given.depths.split(",")):
        for form in FORMS:
            rows.append(measured(depth, form, MODEL, BATCH, LENGTH))
            print(json.dumps(rows[-1]), flush=True)
    if given.output is not None:
        found = {"jax": jax.__version__, "model": MODEL, "batch": BATCH, "length": LENGTH}
        given.output.write_text(json.dumps(found | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
