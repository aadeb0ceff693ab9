"""An own model that looks ahead, or reads one query only, is refused for next tokens."""

import flax.linen as nn
import jax.numpy as jnp
import pytest

from jaxreg.errors import UserErrors
from jaxreg.study.design import components
from jaxreg.study.engine import looks_ahead
from tests.helpers import next_tokens, tiny

KINDS = ("sums", "means", "pooled", "fails")


class Own(nn.Module):
    """Running sums look back only; a mean over the row looks ahead; pooled reads one query."""

    vocab_size: int
    num_outputs: int
    max_length: int
    kind: str = "sums"

    @nn.compact
    def __call__(
        self,
        tokens,
        padding_mask=None,
        mask=None,
        train=False,
        dropout_key=None,
        example_ids=None,
        read_positions=None,
    ):
        x = nn.Embed(self.vocab_size, 8)(tokens)
        if self.kind == "sums":
            x = jnp.cumsum(x, axis=1)
        elif self.kind == "means":
            x = x + x.mean(axis=1, keepdims=True)
        elif self.kind == "pooled":
            x = x.mean(axis=1)
        else:
            x = x.reshape(-1, 7)
        return nn.Dense(self.num_outputs)(x)


@pytest.fixture
def arms(monkeypatch):
    next_tokens.known(monkeypatch)
    monkeypatch.setitem(components.MODELS.maps[0], "own", Own)
    plain = tiny.config() | {"data": {"dataset": "letters", "length": 8}}
    return {kind: {**plain, "model": {"module": "own", "kind": kind}} for kind in KINDS} | {
        "ours": plain
    }


def test_each_is_named_in_one_line(arms):
    with pytest.raises(UserErrors) as refused:
        looks_ahead.refuse(arms, next_tokens.dataset())
    asks = "and letters asks for the next token at every position"
    assert refused.value.mistakes == [
        "arm 'means': model 'own' looks ahead (what it returns at a position changes with later"
        f" tokens), {asks}",
        f"arm 'pooled': model 'own' returns (2, 7) without read_positions, not (2, 8, 7), {asks}",
    ]


def test_rows_of_one_answer_are_not_asked(arms):
    looks_ahead.refuse(arms, tiny.dataset(1))
