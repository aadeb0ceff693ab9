"""Text from a trained model of next tokens: what comes next, drawn one token after the other.

    key = jax.random.key(0)
    drawn = sample(model, params, prompt, 200, key, temperature=0.8, top_k=40)

The context is the last T tokens, T the model's window; while there are fewer, padding follows them,
which a causal model does not read. Token 0, padding, is never drawn.
"""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.nn import Transformer
from jaxreg.probe.forward import query_logits
from jaxreg.typing import Array, Float, Int, PRNGKey


def sample(
    model: nn.Module,
    params: Any,
    prompt: Int[Array | np.ndarray, "p"],
    length: int,
    key: PRNGKey,
    *,
    number: int = 1,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    window: int | None = None,
) -> Int[Array, "n l"]:
    """Continues a prompt `number` times by `length` tokens, with one compiled program.

    Args:
      model: a causal model whose outputs are its tokens, [B, T] -> [B, T, V]; in evaluation mode.
      params: its parameters.
      prompt: P token ids of at least 1; of more than T only the last T are read.
      length: L, the tokens to draw for each continuation.
      key: continuation n draws token i with fold_in(fold_in(key, n), i): the first tokens do not
        depend on how many are drawn.
      number: N, how many continuations.
      temperature: logits are divided by it; 0 takes the most probable token.
      top_k: only the k most probable tokens are drawn; None: all.
      window: T, the most tokens that the model reads; None: its `max_length`.

    Returns:
      int32 [N, L], without the prompt; every id is from 1 to V-1.

    Raises:
      ValueError: one line for each: a model that looks ahead or whose outputs are not its tokens,
        an empty prompt or an id out of range, and numbers out of range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg.nn as jnn
      >>> from jaxreg.probe.sampling import sample
      >>> options = jnn.TransformerOptions(
      ...     block=jnn.BlockOptions(attention=jnn.AttentionOptions(causal=True)))
      >>> model = jnn.Transformer(
      ...     vocab_size=11, num_outputs=11, num_layers=1, width=8, num_heads=2, mlp_width=16,
      ...     max_length=6, options=options)
      >>> prompt = jnp.array([3, 1, 4])
      >>> params = model.init(jax.random.key(0), prompt[None])["params"]
      >>> drawn = sample(model, params, prompt, 8, jax.random.key(1), number=2, top_k=5)
      >>> drawn.shape, bool((drawn > 0).all())
      ((2, 8), True)
    """
    window = _window(model, window)
    prompt = np.asarray(prompt, np.int32)
    mistakes = _mistakes_of_numbers(model, length, number, temperature, top_k)
    mistakes += _mistakes_of_prompt(model, prompt)
    if mistakes:
        raise ValueError("\n".join(mistakes))
    context, filled = _context(prompt, window)
    rows = jnp.broadcast_to(context, (number, window))
    heat = jnp.asarray(temperature or 1.0, jnp.float32)
    most = 1 if temperature == 0 else top_k
    return _continued(model, length, most, params, rows, filled, key, heat)


def next_probabilities(
    model: nn.Module,
    params: Any,
    prompt: Int[Array | np.ndarray, "p"],
    *,
    window: int | None = None,
) -> Float[Array, "v"]:
    """The probability of each token after a prompt: float32 [V], that of padding 0.

    Args:
      model: as `sample` takes it, as are the others.

    Raises:
      ValueError: as `sample`.
    """
    window = _window(model, window)
    prompt = np.asarray(prompt, np.int32)
    mistakes = _mistakes_of_prompt(model, prompt)
    if mistakes:
        raise ValueError("\n".join(mistakes))
    context, filled = _context(prompt, window)
    return _probabilities(model, params, context, filled)


def _mistakes_of_numbers(
    model: Any, length: int, number: int, temperature: float | int, top_k: int | None
) -> list[str]:
    """What is wrong with the numbers of `sample`, one line each."""
    vocab_size = _vocabulary_of(model)
    mistakes = [
        f"{name}: {value}; it must be a whole number, 1 or more"
        for name, value in (("length", length), ("number", number), ("top_k", top_k))
        if value is not None and value < 1
    ]
    if not (math.isfinite(temperature) and temperature >= 0):
        mistakes.append(f"temperature: {temperature}; it must be a number, 0 or more")
    if top_k is not None and vocab_size is not None and top_k >= vocab_size:
        mistakes.append(f"top_k: {top_k}; the model has {vocab_size - 1} tokens")
    return mistakes


def _vocabulary_of(model: Any) -> int | None:
    """V, padding included; None where a person's own model does not say."""
    return getattr(model, "vocab_size", None)


def _window(model: Any, window: int | None) -> int:
    """T; refuses a model that cannot be continued."""
    if isinstance(model, Transformer):
        if not model.options.block.attention.causal:
            raise ValueError("the model looks ahead: only a causal model continues a text")
        if model.options.pooling == "mean" or model.num_outputs != model.vocab_size:
            raise ValueError("the model's outputs are not the next token: it continues no text")
    found = getattr(model, "max_length", None) if window is None else window
    if found is None or found < 1:
        raise ValueError(f"window: {found}; it must be the number of tokens that the model reads")
    return found


def _mistakes_of_prompt(model: Any, prompt: np.ndarray) -> list[str]:
    if prompt.ndim != 1 or not prompt.size:
        return [f"prompt: its shape is {prompt.shape}; it must be [P], with a token at least"]
    size = _vocabulary_of(model)
    wrong = prompt[(prompt < 1) | (prompt >= (size or prompt.max() + 1))]
    return [f"prompt: {wrong[0]}; an id is from 1 to {(size or 0) - 1}"] if wrong.size else []


def _context(prompt: np.ndarray, window: int) -> tuple[Int[Array, "1 t"], Int[Array, ""]]:
    """The last T tokens, padding behind them, and how many they are."""
    last = prompt[-window:]
    context = np.zeros((1, window), np.int32)
    context[0, : len(last)] = last
    return jnp.asarray(context), jnp.asarray(len(last), jnp.int32)


def _logits(
    model: Any, params: Any, context: Int[Array, "b t"], filled: Int[Array, ""]
) -> Float[Array, "b v"]:
    """Logits after the last token of the context; of padding minus infinity."""
    if isinstance(model, Transformer):
        position = jnp.full(context.shape[0], filled - 1)
        logits = query_logits(model, params, {"tokens": context, "query_position": position})
    else:  # a person's own may know no positions to read at
        everywhere: Any = model.apply(
            {"params": params},
            context,
            padding_mask=context != 0,
            mask=None,
            train=False,
            dropout_key=None,
            example_ids=jnp.arange(context.shape[0]),
            read_positions=None,
        )
        logits = jnp.take(everywhere, filled - 1, axis=1)
    return logits.astype(jnp.float32).at[:, 0].set(-jnp.inf)


@partial(jax.jit, static_argnums=0)
def _probabilities(
    model: Any, params: Any, context: Int[Array, "1 t"], filled: Int[Array, ""]
) -> Float[Array, "v"]:
    return jax.nn.softmax(_logits(model, params, context, filled)[0])


@partial(jax.jit, static_argnums=(0, 1, 2))
def _continued(
    model: Any,
    length: int,
    top_k: int | None,
    params: Any,
    context: Int[Array, "n t"],
    filled: Int[Array, ""],
    key: PRNGKey,
    temperature: Float[Array, ""],
) -> Int[Array, "n l"]:
    """`length` tokens of each row; with a top_k of 1 the most probable ones."""
    number, window = context.shape
    keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.arange(number))

    def step(carry, i):
        context, filled = carry
        scores = _logits(model, params, context, filled)
        ids = jnp.broadcast_to(jnp.arange(scores.shape[1]), scores.shape)
        if top_k is not None:
            scores, ids = jax.lax.top_k(scores, top_k)
        own = jax.vmap(lambda row: jax.random.fold_in(row, i))(keys)
        drawn = jax.vmap(jax.random.categorical)(own, scores / temperature)
        token = jnp.take_along_axis(ids, drawn[:, None], axis=1).astype(jnp.int32)
        moved = jnp.where(filled < window, context, jnp.roll(context, -1, axis=1))
        place = jnp.minimum(filled, window - 1)
        moved = jax.lax.dynamic_update_slice(moved, token, (0, place))
        return (moved, jnp.minimum(filled + 1, window)), token[:, 0]

    _, tokens = jax.lax.scan(step, (context, filled), jnp.arange(length))
    return tokens.T
