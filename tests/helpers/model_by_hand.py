"""The whole model written by hand, in float64 numpy, from the parameter tree and the formulas of
the docstrings.

Nothing in here calls jaxreg. Dropout masks are those of attention_by_hand.py.
"""

import math

import jax
import numpy as np

from tests.helpers import attention_by_hand as by_hand

B, T, D, H, F, V, OUT, PATCH = 2, 5, 8, 2, 6, 9, 3, 4
SIZES = {
    "vocab_size": V,
    "num_outputs": OUT,
    "width": D,
    "num_heads": H,
    "mlp_width": F,
    "max_length": T,
}
KEY = jax.random.key(8)
TOKENS = np.array([[1, 4, 2, 8, 3], [5, 7, 6, 0, 0]])
PADDING = TOKENS != 0
IDS = np.array([6, 11])

# DESIGN.md: site = append-only table of integers, layer and place.
PLACES = {
    "embedding": 0,
    "attention": 1,
    "attention_residual": 2,
    "mlp_pre_activation": 3,
    "mlp": 4,
    "mlp_residual": 5,
    "token": 6,
    "key": 7,
    "layer": 8,
    "attention_depth": 9,
    "mlp_depth": 10,
}
PARAMETERS_OF_NORM = {
    "layer": ("scale", "bias"),
    "layer_no_bias": ("scale",),
    "layer_plain": (),
    "rms": ("scale",),
}


def site_key(layer, place):
    return jax.random.fold_in(KEY, layer * 64 + PLACES[place])


def parameters(
    num_layers=2,
    norm="pre",
    final_norm=True,
    positions="learned",
    seed=0,
    norm_kind="layer",
    layer_scale=None,
    qk_norm=False,
    features=False,
    mlp_kind="gelu",
    num_kv_heads=None,
    use_bias=True,
    tie_embeddings=False,
    **_,
):
    """Random parameters in the documented layout."""
    draw = np.random.default_rng(seed)

    def normal(*shape):
        return (draw.normal(size=shape) * 0.5).astype(np.float32)

    def gain(width):
        return {"scale": 1 + normal(width)}

    def norms(*names):
        own = PARAMETERS_OF_NORM[norm_kind]
        return {
            name: {part: 1 + normal(D) if part == "scale" else normal(D) for part in own}
            for name in names
            if own
        }

    params = {
        "embedding": {"embedding": normal(V, D)},
        "output": {"kernel": normal(D, OUT), "bias": normal(OUT)},
    }
    if features:
        del params["embedding"]
        params["patches"] = {"kernel": normal(PATCH, D), "bias": normal(D)}
    if positions == "learned":
        params["positions"] = {"embedding": normal(T, D)}
    if final_norm:
        params |= norms("final_norm")
    groups = H if num_kv_heads is None else num_kv_heads
    inner = ("wi", "wv") if mlp_kind == "swiglu" else ("wi",)
    for layer in range(num_layers):
        params[f"block_{layer}"] = block = {
            "attention": {
                **{
                    name: {"kernel": normal(D, heads, D // H), "bias": normal(heads, D // H)}
                    for name, heads in (("query", H), ("key", groups), ("value", groups))
                },
                "out": {"kernel": normal(H, D // H, D), "bias": normal(D)},
            },
            "mlp": {
                **{name: {"kernel": normal(D, F), "bias": normal(F)} for name in inner},
                "wo": {"kernel": normal(F, D), "bias": normal(D)},
            },
        }
        if norm != "none":
            block |= norms("norm_attention", "norm_mlp")
        if norm == "sandwich":
            block |= norms("norm_attention_out", "norm_mlp_out")
        if qk_norm:
            block["attention"] |= {"query_norm": gain(D // H), "key_norm": gain(D // H)}
        if layer_scale is not None:
            block |= {"layer_scale_attention": gain(D), "layer_scale_mlp": gain(D)}
    params.pop("output" if tie_embeddings else "", None)
    return params if use_bias else without_biases(params)


def without_biases(params):
    """Without the biases of linear layers, which have a kernel; norms have none."""
    if "kernel" in params:
        return {"kernel": params["kernel"]}
    return {
        name: without_biases(part) if isinstance(part, dict) else part
        for name, part in params.items()
    }


def normalized(x, params, name, kind):
    """The norm of this kind over the last axis, with what parameters it has."""
    p = params.get(name, {})
    mean = 0 if kind == "rms" else x.mean(-1, keepdims=True)
    size = np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-6)
    return (x - mean) / size * p.get("scale", 1) + p.get("bias", 0)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x):
    return x / (1 + np.exp(-x))


def kept(rate, key, ids=IDS, queries=(0,), keys=(0,)):
    """[B, queries, keys]: the draws of a site outside attention, head 0."""
    return by_hand.keep_mask(
        key, rate, num_examples=len(ids), heads=[0], queries=queries, keys=keys, example_ids=ids
    )[:, 0]


def dropped(x, rate, key, ids=IDS):
    """Features of [B, T, width] dropped: head 0, query = position, key = feature."""
    if rate is None:
        return x
    return x * kept(rate, key, ids, range(x.shape[1]), range(x.shape[2])) * by_hand.keep_scale(rate)


def turned(x, base):
    """Rotary positions: features i and i + K/2 are the parts of a complex number that turns with
    the position.
    """
    half = x.shape[-1] // 2
    out = np.zeros_like(x)
    for t in range(x.shape[1]):
        for i in range(half):
            number = (x[:, t, :, i] + 1j * x[:, t, :, half + i]) * np.exp(
                1j * t / base ** (i / half)
            )
            out[:, t, :, i], out[:, t, :, half + i] = number.real, number.imag
    return out


def attention(
    query,
    key,
    value,
    *,
    mask=None,
    is_causal=False,
    keep=None,
    rate=0.0,
    droppable=None,
    kind="softmax",
    cap=None,
):
    """(output [B, T, H, K], applied weights [B, H, T, S]), row by row: `by_hand.attention` with
    kinds and caps.
    """
    b, t, h, width = query.shape
    s = key.shape[1]
    allowed = (
        np.ones((b, h, t, s), bool)
        if mask is None
        else np.array(np.broadcast_to(mask, (b, h, t, s)))
    )
    weights, out = np.zeros((b, h, t, s)), np.zeros(query.shape)
    for e, head, i in np.ndindex(b, h, t):
        read = [j for j in range(s) if allowed[e, head, i, j] and (not is_causal or j <= i)]
        if not read and kind == "softmax":
            weights[e, head, i] = 1 / s
        logits = [query[e, i, head] @ key[e, j, head] / math.sqrt(width) for j in read]
        logits = (
            [cap * math.tanh(x / cap) for x in logits]
            if cap is not None and cap < math.inf
            else logits
        )
        exponentials = [math.exp(x - max(logits)) for x in logits]
        for x, e_x, j in zip(logits, exponentials, read, strict=True):
            weights[e, head, i, j] = (
                e_x / sum(exponentials)
                if kind == "softmax"
                else 1 / (1 + math.exp(math.log(len(read)) - x))
            )
    if keep is not None:
        factor = keep * by_hand.keep_scale(rate)
        weights = weights * (factor if droppable is None else np.where(droppable, factor, 1))
    for e, head in np.ndindex(b, h):
        out[e, :, head] = weights[e, head] @ value[e, :, head]
    return out, weights


def embedded(params, tokens, padding, read, features, positions, rate, ids, grid=None):
    """What enters the first block."""
    x = (
        params["embedding"]["embedding"][tokens]
        if features is None
        else features @ params["patches"]["kernel"] + params["patches"].get("bias", 0)
    )
    if rate["token"] is not None:
        keep = kept(rate["token"], site_key(0, "token"), ids, range(x.shape[1]))[:, :, 0]
        for b, t in np.ndindex(x.shape[:2]):
            if (
                not keep[b, t]
                and padding[b, t]
                and (read is None or t not in np.atleast_1d(read[b]))
            ):
                x[b, t] = 0
    for t in range(tokens.shape[1]):
        if positions == "learned":
            x[:, t] += params["positions"]["embedding"][t]
        elif positions == "sinusoidal":
            for i in range(D // 2):
                angle = t / 10_000 ** (2 * i / D)
                x[:, t, i] += math.sin(angle)
                x[:, t, D // 2 + i] += math.cos(angle)
        elif positions == "sinusoidal_2d" and t < grid[0] * grid[1]:
            for half, place in enumerate(divmod(t, grid[1])):
                for i in range(D // 4):
                    angle = place / 10_000 ** (4 * i / D)
                    x[:, t, half * D // 2 + i] += math.sin(angle)
                    x[:, t, half * D // 2 + D // 4 + i] += math.cos(angle)
    return dropped(x, rate["embedding"], site_key(0, "embedding"), ids)


def forgetful(mask, rate, ids):
    """The mask [B, H, T, T] without forgotten keys; a row that would have no key left stays as it
    was.
    """
    keep = kept(rate, site_key(0, "key"), ids, (0,), range(mask.shape[-1]))[:, 0]
    out = mask.copy()
    for b, h, i in np.ndindex(mask.shape[:3]):
        row = [bool(mask[b, h, i, j] and (keep[b, j] or i == j)) for j in range(mask.shape[-1])]
        if any(row):
            out[b, h, i] = row
    return out


RATES = ("attention", "residual", "mlp", "mlp_pre_activation", "embedding", "token", "key", "layer")


def rates_of(options, layer=0, num_layers=1):
    """The rates by their short names, as they are in one layer."""
    names = {name: f"{name}_dropout_rate" for name in RATES} | {"depth": "stochastic_depth_rate"}
    factor = (layer + 1) / num_layers if options.get("dropout_depth") == "linear" else 1
    return {
        name: None if options.get(field) is None else options[field] * factor
        for name, field in names.items()
    }


def block(p, x, mask, droppable, layer, ids, rate, options):
    """(output, attention's weights) of one block."""
    kind, norm, cap = (
        options.get("norm_kind", "layer"),
        options.get("norm", "pre"),
        options.get("logit_softcap"),
    )
    start, weights = x, None

    def attend(x):
        nonlocal weights
        a = p["attention"]
        q, k, v = (
            np.einsum("btd,dhk->bthk", x, a[n]["kernel"]) + a[n].get("bias", 0)
            for n in ("query", "key", "value")
        )
        if options.get("qk_norm"):
            q, k = normalized(q, a, "query_norm", "rms"), normalized(k, a, "key_norm", "rms")
        if options.get("positions") == "rotary":
            base = options.get("rotary_base", 10_000)
            q, k = turned(q, base), turned(k, base)
        # Query head h reads key head h // (H / G).
        read = [h // (H // k.shape[2]) for h in range(H)]
        k, v = k[:, :, read], v[:, :, read]
        keep = (
            None
            if rate["attention"] is None
            else by_hand.keep_mask(
                site_key(layer, "attention"),
                rate["attention"],
                num_examples=len(ids),
                heads=range(H),
                queries=range(x.shape[1]),
                keys=range(x.shape[1]),
                example_ids=ids,
            )
        )
        out, weights = attention(
            q,
            k,
            v,
            mask=mask,
            is_causal=options.get("causal", False),
            keep=keep,
            rate=rate["attention"] or 0,
            droppable=droppable,
            kind=options.get("attention_kind", "softmax"),
            cap=cap,
        )
        return np.einsum("bthk,hkd->btd", out, a["out"]["kernel"]) + a["out"].get("bias", 0)

    def linear(x, layer):
        return x @ layer["kernel"] + layer.get("bias", 0)

    def mlp(x):
        m, key = p["mlp"], site_key(layer, "mlp_pre_activation")
        h = dropped(linear(x, m["wi"]), rate["mlp_pre_activation"], key, ids)
        h = silu(h) * linear(x, m["wv"]) if options.get("mlp_kind") == "swiglu" else gelu(h)
        return linear(dropped(h, rate["mlp"], site_key(layer, "mlp"), ids), m["wo"])

    for name, sublayer in (("attention", attend), ("mlp", mlp)):
        y = sublayer(normalized(x, p, f"norm_{name}", kind) if norm in ("pre", "sandwich") else x)
        y = dropped(y, rate["residual"], site_key(layer, f"{name}_residual"), ids)
        y = normalized(y, p, f"norm_{name}_out", kind) if norm == "sandwich" else y
        y = y * p[f"layer_scale_{name}"]["scale"] if options.get("layer_scale") is not None else y
        if rate["depth"] is not None:
            y = (
                y
                * kept(rate["depth"], site_key(layer, f"{name}_depth"), ids)
                * by_hand.keep_scale(rate["depth"])
            )
        x = x + y if options.get("residual", True) else y
        x = normalized(x, p, f"norm_{name}", kind) if norm == "post" else x
    if (
        rate["layer"] is not None
        and not kept(rate["layer"], site_key(layer, "layer"), np.array([0]))[0, 0, 0]
    ):
        x = start
    return x, weights


def masks_of(mask, padding, num_layers, rate, ids):
    """[B, H, T, T] for each layer: the user's, padding and forgotten keys taken out."""
    b, t = padding.shape
    masks = []
    for layer in range(num_layers):
        own = mask[layer] if mask is not None and mask.ndim == 5 else mask
        own = (
            np.broadcast_to(True if own is None else own, (b, H, t, t)) & padding[:, None, None, :]
        )
        masks.append(own if rate["key"] is None else forgetful(own, rate["key"], ids))
    return masks


def forward(
    params,
    tokens,
    mask=None,
    droppable=None,
    *,
    padding=None,
    read=None,
    features=None,
    ids=IDS,
    **options,
):
    """(logits [B, T, OUT], of a mean [B, OUT], the applied weights of every layer), in float64, in
    training where `options` has rates.
    """
    padding, num_layers = (
        np.ones(tokens.shape, bool) if padding is None else padding,
        options.get("num_layers", 2),
    )
    params, rate = jax.tree.map(lambda x: np.asarray(x, np.float64), params), rates_of(options)
    x = embedded(
        params,
        tokens,
        padding,
        read,
        features,
        options.get("positions", "learned"),
        rate,
        ids,
        options.get("grid"),
    )
    masks, all_weights = masks_of(mask, padding, num_layers, rate, ids), []
    for layer in range(num_layers):
        x, weights = block(
            params[f"block_{layer}"],
            x,
            masks[layer],
            droppable,
            layer,
            ids,
            rates_of(options, layer, num_layers),
            options,
        )
        all_weights.append(weights)
    if options.get("pooling") == "mean":
        x = np.stack([own[real].mean(axis=0) for own, real in zip(x, padding, strict=True)])
    if options.get("final_norm", True):
        x = normalized(x, params, "final_norm", options.get("norm_kind", "layer"))
    if options.get("tie_embeddings"):
        return x @ params["embedding"]["embedding"].T, np.stack(all_weights)
    output = params["output"]
    return x @ output["kernel"] + output.get("bias", 0), np.stack(all_weights)
