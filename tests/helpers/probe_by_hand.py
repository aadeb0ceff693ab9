"""The reference of the probes: a slow forward pass in numpy, one example at a time, that can have
things taken out; and a tiny model.

Nothing in `run` calls jaxreg.
"""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.study.design.model_section import transformer

N, D, H, K, F, V, OUT, T, B = 2, 8, 2, 4, 6, 9, 3, 5, 4
SIZES = {
    "vocab_size": V,
    "num_outputs": OUT,
    "num_layers": N,
    "width": D,
    "num_heads": H,
    "mlp_width": F,
    "max_length": T,
}
FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time

TOKENS = np.array([[1, 4, 2, 8, 0], [0, 5, 7, 6, 3], [0, 2, 1, 0, 0], [3, 3, 8, 5, 7]], np.int32)
QUERY = np.array([2, 3, 2, 0], np.int32)
LABEL = np.array([0, 2, 1, 1], np.int32)
FOIL = np.array([1, 0, -1, 2], np.int32)
CUES = np.array([[1, 0], [2, -1], [1, -1], [3, 1]], np.int32)


def batch_of(cut=False):
    """The batch above, as study makes them."""
    nothing = np.full((B, 2), -1, np.int32)
    arrays = {
        "tokens": TOKENS,
        "query_position": QUERY,
        "label": LABEL,
        "foil": FOIL,
        "cues": CUES,
        "cut_positions": CUES if cut else nothing,
    }
    return {name: jnp.asarray(x) for name, x in arrays.items()}


def model_of(**options):
    return transformer(**SIZES, **options)


def params_of(model, seed=0, spread=0.5, **given):
    """Random parameters in the model's own tree, none of them zero or one."""
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, T), jnp.int32), **given)["params"]
    )
    draw = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(
            draw.normal(size=x.shape) * spread + (0.1 if len(x.shape) == 1 else 0), jnp.float32
        ),
        shapes,
    )


def stacked(*trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def member(tree, m):
    return jax.tree.map(lambda x: x[m], tree)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def run(  # noqa: C901, a reference reads best as one pass from top to bottom
    params,
    e,
    *,
    norm="pre",
    residual=True,
    cut=(),
    kind="layer",
    final_norm=True,
    sigmoid=False,
    frozen=None,
    heads=None,
    branches=None,
    edges=None,
    batch=None,
):
    """Example e in float64: logits at its query and everything that went through, as attributes.

    Args:
      kind: "rms" or any kind of LayerNorm. sigmoid: the weights are no softmax, but sigmoid(logit -
        log of the number of real keys).
      cut: (layer, head, query, key) of connections masked before the softmax.
      heads, branches, edges: what to put in: {(layer, head): [T, K]}, {(layer, branch): [T, D]},
        {(layer, head, query, key): [K], which stands in for the value}.
      frozen: the `statistics` of another run.
    """
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    tokens, query = (
        (TOKENS[e], QUERY[e])
        if batch is None
        else (np.asarray(batch["tokens"][e]), int(batch["query_position"][e]))
    )
    seen = SimpleNamespace(statistics=[], heads={}, values={}, weights={}, inputs={}, outputs={})

    def normalized(x, p, kind=kind):
        mean = np.zeros((*x.shape[:-1], 1)) if kind == "rms" else x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        seen.statistics.append((mean, variance))
        if frozen is not None:
            mean, variance = frozen[len(seen.statistics) - 1]
        return (x - mean) / np.sqrt(variance + 1e-6) * p.get("scale", 1) + p.get("bias", 0)

    def attention(x, p, n):
        q, k, v = (
            np.einsum("td,dhk->thk", x, p[name]["kernel"]) + p[name]["bias"]
            for name in ("query", "key", "value")
        )
        if "query_norm" in p:
            q, k = normalized(q, p["query_norm"], "rms"), normalized(k, p["key_norm"], "rms")
        out = np.zeros((T, D))
        for h in range(H):
            logits = np.full((T, T), -1e30)
            for i in range(T):
                for j in range(T):
                    if tokens[j] != 0 and (n, h, i, j) not in cut:
                        logits[i, j] = q[i, h] @ k[j, h] / math.sqrt(K)
            w = (
                np.exp(-np.logaddexp(0, np.log((tokens != 0).sum()) - logits))
                if sigmoid
                else softmax(logits)
            )
            o = np.zeros((T, K))
            for i in range(T):
                for j in range(T):
                    o[i] += w[i, j] * (edges or {}).get((n, h, i, j), v[j, h])
            seen.weights[n, h], seen.values[n, h], seen.heads[n, h] = w, v[:, h], o
            out += (heads or {}).get((n, h), o) @ p["out"]["kernel"][h]
        return out + p["out"]["bias"]

    def mlp(x, p, n):
        return gelu(x @ p["wi"]["kernel"] + p["wi"]["bias"]) @ p["wo"]["kernel"] + p["wo"]["bias"]

    x = params["embedding"]["embedding"][tokens] + params["positions"]["embedding"]
    for n in range(N):
        p = params[f"block_{n}"]
        for b, (name, apply) in enumerate((("attention", attention), ("mlp", mlp))):
            seen.inputs[n, b] = (
                normalized(x, p.get(f"norm_{name}", {})) if norm in ("pre", "sandwich") else x
            )
            y = apply(seen.inputs[n, b], p[name], n)
            y = normalized(y, p.get(f"norm_{name}_out", {})) if norm == "sandwich" else y
            y = y * p[f"layer_scale_{name}"]["scale"] if f"layer_scale_{name}" in p else y
            seen.outputs[n, b] = y
            y = (branches or {}).get((n, b), y)
            x = x + y if residual else y
            x = normalized(x, p.get(f"norm_{name}", {})) if norm == "post" else x
    x = x[query : query + 1]
    x = normalized(x, params.get("final_norm", {})) if final_norm else x
    seen.logits = (x @ params["output"]["kernel"] + params["output"]["bias"])[0]
    return seen


def loss_and_hit(logits, label, foil):
    """Cross-entropy and hit of one example."""
    loss = -np.log(softmax(logits)[label])
    if foil >= 0:
        return loss, float(logits[label] > logits[foil])
    return loss, float(np.argmax(logits) == label)


def score(logits):
    """(accuracy, loss) of the batch above."""
    pairs = [loss_and_hit(logits[e], LABEL[e], FOIL[e]) for e in range(B)]
    return np.mean([hit for _, hit in pairs]), np.mean([loss for loss, _ in pairs])
