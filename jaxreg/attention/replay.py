"""What attention dropped inside a model, whatever gave it its key.

Every framework derives the key of an attention call by rules of its own: Flax folds a path or a
count into a stream, jaxreg's modules besides the number of the site. So a model is run once, and
each call says what it was given.
"""

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp

from jaxreg.attention import masks
from jaxreg.attention.dropout import AttentionDropout
from jaxreg.typing import Array, Bool, Int, PRNGKey

_noted: ContextVar[list["DropoutCall"] | None] = ContextVar("dropout_calls", default=None)


@dataclasses.dataclass(frozen=True, eq=False)
class DropoutCall:
    """A call of attention that dropped something.

    dropout: what was dropped, and at what rate. dropout_key: the call key, or one key for each
    example, [*B]. example_ids: [*B] positions in the global batch, or None for 0 ... B-1.
    batch_shape: *B. num_heads: query heads. num_queries, num_keys: T and S. first_query: position
    of the first query.
    """

    dropout: AttentionDropout
    dropout_key: PRNGKey
    example_ids: Int[Array, "*b"] | None
    batch_shape: tuple[int, ...]
    num_heads: int
    num_queries: int
    num_keys: int
    first_query: int

    def keep_mask(
        self,
        *,
        rows: Int[Array, "e"] | Sequence[int] | None = None,
        heads: Int[Array, "h"] | Sequence[int] | None = None,
        queries: Int[Array, "t"] | Sequence[int] | None = None,
        keys: Int[Array, "s"] | Sequence[int] | None = None,
    ) -> Bool[Array, "e h t s"]:
        """True where the call kept a connection; the model's own masks are not in it.

        Args:
          rows: rows of the batch (of several batch axes: as one axis); None means all.
          heads: query heads; None means all.
          queries, keys: positions in the sequence; None means those of the call.

        Raises:
          ValueError: the call had no such row, head, query or key.
        """
        rows = _positions("rows", rows, 0, math.prod(self.batch_shape))
        heads = _positions("heads", heads, 0, self.num_heads)
        queries = _positions("queries", queries, self.first_query, self.num_queries)
        keys = _positions("keys", keys, 0, self.num_keys)
        ids = None if self.example_ids is None else self.example_ids.reshape(-1)[rows]
        call_key = masks.as_typed_keys(self.dropout_key)
        if call_key.ndim:
            call_key = call_key.reshape(-1)[rows]
        elif ids is None:
            ids = rows
        return masks.keep_mask(
            self.dropout, call_key, examples=ids, heads=heads, queries=queries, keys=keys
        )


def _positions(
    name: str, given: Int[Array, "n"] | Sequence[int] | None, first: int, count: int
) -> Int[Array, "n"]:
    """What was asked for, of `count` that begin at `first`; None is all of them."""
    if given is None:
        return first + jnp.arange(count)
    found = jnp.asarray(given)
    if found.ndim != 1 or not jnp.issubdtype(found.dtype, jnp.integer):
        raise ValueError(f"{name}: {given}; allowed is a list or an array of whole numbers")
    if not isinstance(found, jax.core.Tracer):
        wrong = found[(found < first) | (found >= first + count)]
        if wrong.size:
            raise ValueError(f"{name}: the call has {first} to {first + count - 1}, not {wrong[0]}")
    return found


def dropout_calls(function: Callable, *args: Any, **kwargs: Any) -> list[DropoutCall]:
    """Runs a function once, and returns the calls of jaxreg's attention that dropped something.

    The function is a model in training, with Flax's modules and `attention_fn` or with jaxreg's
    own, and the same parameters, random keys and counts as in the step that is looked at. An NNX
    model counts its calls: give a copy, `nnx.clone(model)`, taken before the step.

    Args:
      function: called as function(*args, **kwargs); its result is thrown away.

    Returns:
      The calls in their order. `call.keep_mask()` is the mask that was drawn.

    Raises:
      ValueError: no call dropped anything, or a call's key is not known because it is inside jit,
        scan, remat or vmap.

    Randomness: none of its own; see `masks.py`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg
      >>> from flax import nnx
      >>> layer = nnx.MultiHeadAttention(
      ...     num_heads=2, in_features=8, dropout_rate=0.5, decode=False,
      ...     attention_fn=jaxreg.attention_fn(), rngs=nnx.Rngs(0, dropout=1))
      >>> [call] = jaxreg.dropout_calls(nnx.clone(layer), jnp.ones((3, 4, 8)), deterministic=False)
      >>> call.keep_mask(heads=[1]).shape  # of three examples, one head, 4 x 4 positions
      (3, 1, 4, 4)
    """
    calls: list[DropoutCall] = []
    token = _noted.set(calls)
    try:
        function(*args, **kwargs)
    finally:
        _noted.reset(token)
    if not calls:
        raise ValueError(
            "dropout_calls: no call of jaxreg's attention dropped anything; was it in evaluation,"
            " at rate 0, with Flax's own attention function, or compiled by jit before?"
        )
    return calls


def note(
    dropout: AttentionDropout,
    dropout_key: PRNGKey,
    example_ids: Int[Array, "*b"] | None,
    query: Array,
    num_keys: int,
    query_offset: Int[Array, ""] | int | None,
) -> None:
    """Keeps what a call drops, where `dropout_calls` asks for it.

    Args:
      query: [*B, T, H, K].
    """
    calls = _noted.get()
    if calls is None:
        return
    given = (dropout.rate, dropout_key, example_ids, query_offset)
    if any(isinstance(x, jax.core.Tracer) for x in given):
        raise ValueError(
            "dropout_calls: attention is called inside jit, scan, remat or vmap, where its key is"
            " not known; run the model without them (jax.disable_jit() switches jit off)"
        )
    *lead, t, h, _ = query.shape
    first = 0 if query_offset is None else int(query_offset)
    calls.append(DropoutCall(dropout, dropout_key, example_ids, tuple(lead), h, t, num_keys, first))


class Mark(NamedTuple):
    """What a program says of the masks of a call of attention, which it draws in loops.

    Attributes:
      shape: of the masks that one key draws, 1 along what shares them.
      rate: the drop probability, None where it is an array.
    """

    shape: tuple[int, ...]
    rate: float | None

    @property
    def name(self) -> str:
        """The name of the scope: "attention_dropout(8x2x16x16,0.1)"."""
        rate = "?" if self.rate is None else f"{self.rate:.6g}"
        return f"attention_dropout({'x'.join(map(str, self.shape))},{rate})"


_NAME = re.compile(r"attention_dropout\(([\dx]+),([^)]*)\)")


def marked(
    dropout: AttentionDropout | None, dropout_key: PRNGKey | None, query: Array, num_keys: int
) -> contextlib.AbstractContextManager:
    """A scope of names in the program that says what the call inside drops; it computes nothing.

    Args:
      query: [*B, T, H, K].
    """
    if dropout is None or dropout_key is None:
        return contextlib.nullcontext()
    *lead, t, h, _ = query.shape
    own = dropout.coordinates
    lengths = [("head", h), ("query", t), ("key", num_keys)]
    if masks.as_typed_keys(dropout_key).ndim == 0:  # else the keys have these axes
        lengths = [*(("example", n) for n in lead), *lengths]
    shape = tuple(n if name in own else 1 for name, n in lengths)
    if not all(isinstance(n, int) for n in shape):  # of a program for any size
        return contextlib.nullcontext()
    rate = float(dropout.rate) if isinstance(dropout.rate, (int, float)) else None
    return jax.named_scope(Mark(shape, rate).name)


def read_mark(names: str) -> tuple[Mark | None, str]:
    """The mark in an operation's stack of names, None where there is none; and the other names."""
    found = _NAME.search(names)
    if found is None:
        return None, names
    shape, rate = found.groups()
    mark = Mark(tuple(map(int, shape.split("x"))), None if rate == "?" else float(rate))
    others = re.sub(r"\w+\(\)", "", _NAME.sub("", names))  # a transformation of it alone
    return mark, others.replace("//", "/").strip("/")
