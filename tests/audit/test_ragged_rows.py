"""Rows of several lengths, whose padding is known by its token: what stands there may move."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxreg import audit
from jaxreg.audit.bench import Bench
from jaxreg.audit.checks import masking
from jaxreg.errors import UserErrors

PAD, VOCABULARY, LENGTH = 0, 7, 6
CHECKS = ("causal", "padding", "padding_gradients", "empty_rows", "loss_ignored")


class Model(nn.Module):
    """One causal attention; a padded query may read no key, so that Flax lets it read all.

    forbidden: what masked logits are; None: Flax's own attention, with its large negative number.
    """

    forbidden: float | None = None
    is_causal: bool = True

    @nn.compact
    def __call__(self, tokens):
        valid = tokens != PAD
        mask = nn.make_attention_mask(valid, valid) > 0
        if self.is_causal:
            mask = mask & (nn.make_causal_mask(tokens) > 0)
        x = nn.Embed(VOCABULARY, 8)(tokens)
        x = x + nn.Embed(2 * LENGTH, 8)(jnp.arange(tokens.shape[1]))
        if self.forbidden is None:
            y = nn.MultiHeadDotProductAttention(2)(x, mask=mask)
        else:
            weights = nn.softmax(jnp.where(mask[:, 0], x @ x.swapaxes(1, 2), self.forbidden))
            y = weights @ nn.Dense(8)(x)
        return nn.Dense(VOCABULARY)(x + y)


def batch(seed, size):
    draw = np.random.default_rng(seed)
    tokens = draw.integers(1, VOCABULARY, (size, LENGTH + 1))
    tokens[np.arange(LENGTH + 1) >= draw.integers(3, LENGTH + 2, (size, 1))] = PAD
    return {"inputs": tokens[:, :-1], "labels": tokens[:, 1:]}


def pad(batch, n):
    return {name: np.pad(x, ((0, 0), (0, n)), constant_values=PAD) for name, x in batch.items()}


def loss(logits, batch):
    """The mean over each row's own tokens."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
    counted = batch["labels"] != PAD
    return (losses * counted).sum(1) / jnp.maximum(counted.sum(1), 1)


def found(*checks, model=None, **fields):
    own = {"causal": True, "loss": loss, "pad": pad} | fields
    subject = audit.linen(model or Model(), batch, **own)
    return {each.check: each for each in audit.run(subject, checks)}


def test_logits_at_padding_may_move():
    statuses = {name: each.status for name, each in found(*CHECKS).items()}
    assert statuses == dict.fromkeys(CHECKS, "ok")


def test_without_pad_they_are_not_known_and_the_fix_says_so():
    finding = found("causal", pad=None)["causal"]
    assert finding.status == "FAILED" and "give `pad`" in masking.CHECKS["causal"].fix


def test_a_model_that_reads_later_tokens_is_still_found():
    assert found("causal", model=Model(is_causal=False))["causal"].status == "FAILED"


def test_a_row_of_padding_alone_is_tried_where_no_mask_is_in_the_batch():
    finding = found("empty_rows", model=Model(forbidden=-jnp.inf))["empty_rows"]
    assert finding.status == "FAILED" and "gradients" in finding.detail


def test_padding_is_what_ends_a_row():
    bench = Bench(audit.linen(Model(), batch, loss=loss, pad=pad))
    counted = bench.counted
    assert counted is not None and counted.any(1).all() and not counted.all()
    np.testing.assert_array_equal(counted, bench.batch()["inputs"] != PAD)
    assert Bench(audit.linen(Model(), batch, loss=loss)).counted is None


def test_labels_of_padding_that_the_loss_would_count_are_refused():
    with pytest.raises(UserErrors, match=r"^`pad` adds the labels \[0\], which the loss counts"):
        audit.run(audit.linen(Model(), batch, pad=pad), ["padding"])
