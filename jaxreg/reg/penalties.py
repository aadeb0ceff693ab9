"""Penalties, terms added to each example's training loss: a class and a line of `PENALTIES` each.

    loss of an example = cross-entropy + sum over penalties of strength * penalty

A penalty reads the outputs of one training pass (`Seen`) and returns one number per answer or per
example; where a row is asked at every position, that of an example counts for each of its answers.
Strengths are traced; the off value of each is 0, where the loss is exactly the cross-entropy (of a
finite penalty). A user's penalty is a class like these.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp

from jaxreg.typing import Array, Bool, Float, Int, Params, PyTree, Scalar


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """The inputs of a penalty: one training pass over one batch.

    The two functions cost nothing until one is called, and then are computed once, however often
    they are called.

    Attributes:
      params: the model's parameters.
      decayed: a tree of the same structure, True at the leaves that weight decay acts on.
      batch: arrays with the example first, and `tokens` [B, T], 0 at padding.
      example_ids: [B] positions in the global batch.
      logits: [B, V] of the pass, with its dropout; [B, T, V] where every position is asked.
      loss: [B] cross-entropy in nats, without any penalty; of two labels where an augmentation
        mixed them. [B, T] where every position is asked, and 0 where it has no answer.
      attention_weights: () -> [N, B, H, T, T] of the same pass, as they were applied to the values:
        after dropout.
      again: () -> logits like these of a second pass over the same batch, with other dropout masks
        (stream "second").

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.reg.penalties import Seen
      >>> logits, ids = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]])), jnp.arange(2)
      >>> seen = Seen({}, {}, {}, ids, logits, jnp.zeros(2), lambda: None, lambda: logits)
      >>> seen.again() is seen.again()  # computed once
      True
    """

    params: Params
    decayed: PyTree[bool]
    batch: Mapping[str, Any]
    example_ids: Int[Array, "b"]
    logits: Float[Array, "b *t v"]
    loss: Float[Array, "b *t"]
    attention_weights: Callable[[], Float[Array, "n b h t t"]]
    again: Callable[[], Float[Array, "b *t v"]]

    def __post_init__(self):
        for name in ("attention_weights", "again"):
            object.__setattr__(self, name, functools.cache(getattr(self, name)))


class Penalty(Protocol):
    """The interface of a penalty: from the outputs of a training pass to one number per answer.

    what: one line for `jaxreg list`. source: the paper. largest: the greatest strength that makes
    sense; seen_with: config fields and values without which it changes nothing. A class that
    inherits from this one need not say the last two.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.reg.penalties import Seen, Penalty
      >>> logits, ids = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]])), jnp.arange(2)
      >>> seen = Seen({}, {}, {}, ids, logits, jnp.zeros(2), lambda: None, lambda: logits)
      >>> class Offset(Penalty):
      ...     what, source = "keeps the mean logit near 0", "mine"
      ...     def __call__(self, seen):
      ...         return jnp.square(seen.logits.mean(axis=-1))
      ...
      >>> Offset()(seen).shape
      (2,)
    """

    what: ClassVar[str]
    source: ClassVar[str]
    largest: ClassVar[float] = inf
    seen_with: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, seen: Seen) -> Float[Array, "b *t"]:
        """[B], or [B, T] where every position is asked.

        Finite where logits and parameters are, and with finite gradients.
        """
        ...


class LabelSmoothing(Penalty):
    """Cross-entropy against the uniform distribution, minus the loss.

    loss + s * penalty = (1 - s) * loss + s * mean over classes of -log p: the smoothing of
    `losses.cross_entropy`.

    Source: Szegedy et al. 2016, arXiv:1512.00567, section 7. Equal, with a uniform prior.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.reg.penalties import Seen, LabelSmoothing
      >>> logits, ids = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]])), jnp.arange(2)
      >>> seen = Seen({}, {}, {}, ids, logits, -logits[:, 0], lambda: None, lambda: logits)
      >>> [round(float(x), 3) for x in LabelSmoothing()(seen)]
      [0.0, 1.099]
    """

    what = "spreads a share of the target over all answers"
    source = "Szegedy et al. 2016"
    largest = 1.0

    def __call__(self, seen: Seen) -> Float[Array, "b *t"]:
        return -jnp.mean(jax.nn.log_softmax(seen.logits), axis=-1) - seen.loss


class RDrop(Penalty):
    """(KL(p || q) + KL(q || p)) / 2 in nats, for outputs p, q of two passes with other masks.

    The gradient flows through both passes. Without dropout both are the same and the penalty is
    exactly 0.

    Source: Liang et al. 2021, arXiv:2106.14448. Differs: the paper adds up the cross-entropies of
    both passes; we have the first's only, so its noise is not averaged out, and the paper's alpha
    is twice our strength.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.reg.penalties import Seen, RDrop
      >>> logits, ids = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]])), jnp.arange(2)
      >>> seen = Seen({}, {}, {}, ids, logits, jnp.zeros(2), lambda: None, lambda: logits[::-1])
      >>> [round(float(x), 3) for x in RDrop()(seen)]
      [0.439, 0.439]
    """

    what = "pulls the outputs of two passes with other dropout masks together"
    source = "Liang et al. 2021"
    seen_with: ClassVar[Mapping[str, Any]] = {"model.attention_dropout_rate": 0.6}

    def __call__(self, seen: Seen) -> Float[Array, "b *t"]:
        log_p, log_q = jax.nn.log_softmax(seen.logits), jax.nn.log_softmax(seen.again())
        return jnp.sum((jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q), axis=-1) / 2


class ZLoss(Penalty):
    """(log Z)^2, Z the sum of exp(logits): keeps the logits' common offset near 0.

    The softmax does not depend on that offset.

    Source: Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, section 5, strength 1e-4; before it in
    Mesh TensorFlow, Shazeer et al. 2018, arXiv:1811.02084.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.reg.penalties import Seen, ZLoss
      >>> logits, ids = jnp.zeros((2, 2)), jnp.arange(2)
      >>> seen = Seen({}, {}, {}, ids, logits, jnp.zeros(2), lambda: None, lambda: logits)
      >>> [round(float(x), 3) for x in ZLoss()(seen)]
      [0.48, 0.48]
    """

    what = "keeps the logarithm of the softmax's normalizer near 0"
    source = "Chowdhery et al. 2022; Shazeer et al. 2018"

    def __call__(self, seen: Seen) -> Float[Array, "b *t"]:
        return jnp.square(jax.nn.logsumexp(seen.logits, axis=-1))


class ConfidencePenalty(Penalty):
    """Minus the entropy of the output in nats, in [-log V, 0]: penalizes confident answers.

    Source: Pereyra et al. 2017, arXiv:1701.06548, section 3. Differs: no threshold on the entropy
    and no annealing.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.reg.penalties import Seen, ConfidencePenalty
      >>> logits, ids = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]])), jnp.arange(2)
      >>> seen = Seen({}, {}, {}, ids, logits, jnp.zeros(2), lambda: None, lambda: logits)
      >>> [round(float(x), 3) for x in ConfidencePenalty()(seen)]
      [-0.693, -0.325]
    """

    what = "rewards entropy of the output: sure answers cost"
    source = "Pereyra et al. 2017"

    def __call__(self, seen: Seen) -> Float[Array, "b *t"]:
        log_p = jax.nn.log_softmax(seen.logits)
        return jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


class AttentionEntropy(Penalty):
    """Minus the entropy of the attention rows in nats: penalizes *concentrated* attention.

    Mean over layers, heads and the queries that are no padding; between -log T and 0. Rows are
    divided by their sum first. So with attention dropout it is the entropy over the connections
    kept, and rows with none kept count as 0; with sigmoid attention it is that of the shares.

    Source: Attanasio et al. 2022 (EAR), doi:10.18653/v1/2022.findings-acl.88, which has this sign.
    Differs: each head by itself, where the paper averages heads and takes a second softmax; mean
    over layers, not sum. Zhai et al. 2023, arXiv:2303.06296, find training unstable where this
    entropy collapses.

    Example:
      >>> import jax.numpy as jnp
      >>> batch, even = {"tokens": jnp.ones((2, 4), int)}, jnp.full((1, 2, 1, 4, 4), 0.25)
      >>> from jaxreg.reg.penalties import Seen, AttentionEntropy
      >>> logits, ids = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]])), jnp.arange(2)
      >>> seen = Seen({}, {}, batch, ids, logits, jnp.zeros(2), lambda: even, lambda: logits)
      >>> [round(float(x), 3) for x in AttentionEntropy()(seen)]
      [-1.386, -1.386]
    """

    what = "rewards entropy of the attention rows: concentrated attention costs"
    source = "Attanasio et al. 2022; Zhai et al. 2023"

    def __call__(self, seen: Seen) -> Float[Array, "b"]:
        weights = seen.attention_weights()
        total = jnp.sum(weights, axis=-1, keepdims=True)
        share = weights / jnp.where(total > 0, total, 1)
        # The logarithm's argument is 1 where the share is 0: not only the value, also the gradient
        # is 0 there.
        negative = jnp.sum(share * jnp.log(jnp.where(share > 0, share, 1)), axis=-1).mean(
            axis=(0, 2)
        )
        return _mean_where(negative, seen.batch["tokens"] != 0)


class L2(Penalty):
    """Half the squared norm of the parameters that weight decay acts on, the same for each example.

    With plain SGD its gradient is weight decay; with Adam it is not, because it passes through
    Adam's division, and through the clip (`jaxreg.optim`'s adam_l2 adds the same behind the clip).

    Source: Tikhonov 1943, Doklady Akademii Nauk SSSR 39(5):195-198; Krogh & Hertz 1991, Advances in
    Neural Information Processing Systems 4:950-957 (weight decay). Differs: only matrices, where
    the config says so.

    Example:
      >>> import jax.numpy as jnp
      >>> params, decayed = {"kernel": jnp.array([3.0, 4.0])}, {"kernel": True}
      >>> from jaxreg.reg.penalties import Seen, L2
      >>> logits, ids = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]])), jnp.arange(2)
      >>> seen = Seen(params, decayed, {}, ids, logits, jnp.zeros(2), lambda: None, lambda: logits)
      >>> [round(float(x), 3) for x in L2()(seen)]
      [12.5, 12.5]
    """

    what = "half the squared norm of the decayed parameters, as a term of the loss"
    source = "Tikhonov 1943; Krogh & Hertz 1991"

    def __call__(self, seen: Seen) -> Float[Array, "b *t"]:
        return _for_each_answer(seen, lambda x: jnp.sum(jnp.square(x)) / 2)


class L1(Penalty):
    """Sum of absolute values of the parameters that weight decay acts on, equal for all examples.

    The gradient at a 0 is 0, so a step crosses zero rather than stopping there: weights become
    small, not exactly 0.

    Source: Tibshirani 1996 (lasso), doi:10.1111/j.2517-6161.1996.tb02080.x. Differs: by gradient,
    see above.

    Example:
      >>> import jax.numpy as jnp
      >>> params, decayed = {"kernel": jnp.array([3.0, -4.0])}, {"kernel": True}
      >>> from jaxreg.reg.penalties import Seen, L1
      >>> logits, ids = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]])), jnp.arange(2)
      >>> seen = Seen(params, decayed, {}, ids, logits, jnp.zeros(2), lambda: None, lambda: logits)
      >>> [round(float(x), 3) for x in L1()(seen)]
      [7.0, 7.0]
    """

    what = "sum of absolute values of the decayed parameters, as a term of the loss"
    source = "Tibshirani 1996"

    def __call__(self, seen: Seen) -> Float[Array, "b *t"]:
        return _for_each_answer(seen, lambda x: jnp.sum(jnp.abs(x)))


PENALTIES: dict[str, type] = {
    "label_smoothing": LabelSmoothing,
    "r_drop": RDrop,
    "z_loss": ZLoss,
    "confidence_penalty": ConfidencePenalty,
    "attention_entropy": AttentionEntropy,
    "l2": L2,
    "l1": L1,
}
"""Name -> penalty; the config field of each is loss.<name>_strength."""


def penalized(
    seen: Seen, strengths: Mapping[str, Scalar], penalties: Mapping[str, type] = PENALTIES
) -> Float[Array, "b *t"]:
    """Each answer's loss: seen.loss + the sum of strength * penalty, in the table's order.

    Args:
      strengths: penalty name -> strength, perhaps traced. A penalty that is not named is absent
        from the program.
      penalties: the table.

    Raises:
      ValueError: a name that is not in the table.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.reg.penalties import Seen, penalized
      >>> logits, ids = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]])), jnp.arange(2)
      >>> seen = Seen({}, {}, {}, ids, logits, jnp.ones(2), lambda: None, lambda: logits)
      >>> [round(float(x), 3) for x in penalized(seen, {"confidence_penalty": 0.1})]
      [0.931, 0.967]
    """
    if unknown := [name for name in strengths if name not in penalties]:
        raise ValueError(f"penalties: {', '.join(unknown)}; allowed: {', '.join(penalties)}")
    value = seen.loss
    for name, penalty in penalties.items():
        if name in strengths:
            term = penalty()(seen)
            if term.ndim < value.ndim:  # of the row as a whole
                term = term[:, None]
            value = value + strengths[name] * term
    return value


def _mean_where(x: Float[Array, "b t"], real: Bool[Array, "b t"]) -> Float[Array, "b"]:
    """The mean over T of the real ones; 0 where there is none."""
    count = jnp.maximum(jnp.sum(real, axis=-1), 1).astype(x.dtype)
    return jnp.sum(jnp.where(real, x, 0), axis=-1) / count


def _for_each_answer(seen: Seen, of_leaf: Callable[[Array], Array]) -> Float[Array, "b *t"]:
    """The sum over the decayed leaves, once for each answer."""
    values = jax.tree.map(
        lambda x, decayed: of_leaf(x) if decayed else 0.0, seen.params, seen.decayed
    )
    return jnp.broadcast_to(
        jnp.asarray(sum(jax.tree.leaves(values)), seen.loss.dtype), seen.loss.shape
    )
