"""The clean run: a pass in evaluation mode, with all activations that probes compare or restore."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxreg.nn import Transformer
from jaxreg.nn.precision import at_least_float32
from jaxreg.probe import normalization
from jaxreg.probe.forward import query_logits
from jaxreg.typing import Array, Float

BRANCHES = ("attention", "mlp")


class Clean(NamedTuple):
    """The activations of an unmodified pass, float32 also of a model that computes in bfloat16.

    Attributes:
      logits: at the query.
      heads: what each head adds before the output projection: the input of attention/out.
      values: the values that the heads read.
      weights: the attention weights, rows are queries.
      inputs, outputs: of the branches (attention, MLP) of each block: what the module reads (after
        the norm, under pre-norm), and what the branch adds (after the second norm of a sandwich and
        LayerScale).
      statistics: of every norm's calls, by the module's path.
    """

    logits: Float[Array, "b v"]
    heads: Float[Array, "n b t h k"]
    values: Float[Array, "n b t h k"]
    weights: Float[Array, "n b h t t"]
    inputs: Float[Array, "n 2 b t d"]
    outputs: Float[Array, "n 2 b t d"]
    statistics: dict[str, list[normalization.Statistics]]


def clean_run(model: Transformer, params: Any, batch: Mapping) -> Clean:
    """One pass in evaluation mode, all of `Clean` recorded; unused parts are free once compiled."""
    seen: dict[str, Array] = {}
    statistics: dict[str, list[normalization.Statistics]] = {}

    def intercept(next_function, args, kwargs, context):
        out = next_function(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name == "__call__" and args:
            seen[f"{path}:in"], seen[f"{path}:out"] = args[0], out
        if path.endswith("/attention/out"):
            seen[f"{path}:weights"] = attention_weights(context)
        return out

    logits = query_logits(
        model, params, batch, intercept=(normalization.recorder(statistics), intercept), sow=True
    )
    layers = range(model.num_layers)

    def stack(name):
        return jnp.stack([at_least_float32(seen[f"block_{n}/{name}"]) for n in layers])

    def branches(names, side):
        pairs = [jnp.stack([seen[f"block_{n}/{x}:{side}"] for x in names]) for n in layers]
        return at_least_float32(jnp.stack(pairs))

    return Clean(
        logits,
        stack("attention/out:in"),
        of_each_head(stack("attention/value:out"), model.num_heads),
        stack("attention/out:weights"),
        branches(BRANCHES, "in"),
        branches(branch_ends(model), "out"),
        statistics,
    )


def branch_ends(model: Transformer) -> tuple[str, str]:
    """For each branch, the last module of a block, whose output is added to the residual stream."""
    options = model.options.block
    if options.layer_scale is not None:
        return "layer_scale_attention", "layer_scale_mlp"
    if options.norm == "sandwich":
        return "norm_attention_out", "norm_mlp_out"
    return BRANCHES


def attention_weights(context: Any) -> Float[Array, "b h t t"]:
    """The weights of the attention whose output projection is called: sown by it just before."""
    return context.module.parent.get_variable("intermediates", "attention_weights")[-1]


def of_each_head(values: Float[Array, "*k g d"], num_heads: int) -> Float[Array, "*k h d"]:
    """The values that each head reads; grouped heads read the same ones."""
    return jnp.repeat(values, num_heads // values.shape[-2], axis=-2)


def at_out(edit: Callable[[int, Array, Array, Array], Array]) -> Callable:
    """An interceptor that replaces the input of attention/out by the result of `edit`.

    Args:
      edit: (layer, heads' outputs [B, T, H, K], values [B, T, H, K], weights [B, H, T, T]) of the
        running pass -> the input. The pass must sow.
    """
    values = {}

    def intercept(next_function, args, kwargs, context):
        path = context.module.path
        if context.method_name != "__call__" or len(path) < 3 or path[-2] != "attention":
            return next_function(*args, **kwargs)
        layer = int(path[-3].removeprefix("block_"))
        if path[-1] == "value":
            values[layer] = next_function(*args, **kwargs)
            return values[layer]
        if path[-1] == "out":
            own = of_each_head(values[layer], args[0].shape[-2])
            edited = edit(layer, args[0], own, attention_weights(context))
            edited = edited.astype(args[0].dtype)
            return next_function(edited, *args[1:], **kwargs)
        return next_function(*args, **kwargs)

    return intercept


def at_branches(model: Transformer, edit: Callable[[int, int, Array], Array]) -> Callable:
    """Replaces each branch's output by edit(layer, 0 for attention or 1 for the MLP, output)."""
    ends = branch_ends(model)

    def intercept(next_function, args, kwargs, context):
        out = next_function(*args, **kwargs)
        path = context.module.path
        if context.method_name != "__call__" or len(path) != 2 or path[1] not in ends:
            return out
        edited = edit(int(path[0].removeprefix("block_")), ends.index(path[1]), out)
        return edited.astype(out.dtype)

    return intercept
