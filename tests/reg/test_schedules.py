"""The factor of a strength over the steps, at each step by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.reg import schedules

BY_HAND = {
    "constant": lambda step, length: 1.0,
    "early": lambda step, length: 1.0 if step < length else 0.0,
    "late": lambda step, length: 0.0 if step < length else 1.0,
    "falling": lambda step, length: 1 - step / length if step < length else 0.0,
    "rising": lambda step, length: step / length if step < length else 1.0,
    "curriculum": lambda step, length: 1 - math.exp(-10 * step / length),
}


@pytest.mark.parametrize(
    "share, num_steps, length",
    [(0.5, 20, 10), (0.29, 100, 29), (0.3, 40, 12), (1.0, 7, 7), (0.7, 10, 7)],
)
@pytest.mark.parametrize("shape", schedules.SCHEDULES)
def test_every_step_by_hand(shape, share, num_steps, length):
    found = jax.jit(
        jax.vmap(lambda step: schedules.factor(shape, step, share=share, num_steps=num_steps))
    )(jnp.arange(num_steps))
    assert found.dtype == jnp.float32 and np.all((found >= 0) & (found <= 1))
    np.testing.assert_allclose(
        found, [BY_HAND[shape](step, length) for step in range(num_steps)], rtol=1e-5, atol=1e-6
    )
    one = schedules.factor(shape, 3, share=share, num_steps=num_steps)
    assert one.shape == () and float(one) == pytest.approx(BY_HAND[shape](3, length), abs=1e-6)


@pytest.mark.parametrize(
    "shape, value",
    {"constant": 1, "early": 0, "late": 1, "falling": 0, "rising": 1, "curriculum": 1}.items(),
)
def test_a_length_of_nothing_is_over_at_once(shape, value):
    for step in (0, 1, 50):
        assert float(schedules.factor(shape, step, share=0.0, num_steps=100)) == pytest.approx(
            value, abs=1e-4
        )


def test_switches_are_exact_and_at_the_same_step_for_any_size():
    for num_steps in (10, 400, 30_000, 100_000_000):
        for share in (0.1, 0.3, 0.7):
            at = round(share * num_steps)
            values = [
                float(schedules.factor("early", jnp.int32(step), share=share, num_steps=num_steps))
                for step in (at - 1, at)
            ]
            assert values == [1.0, 0.0], (num_steps, share)
    assert float(schedules.factor("falling", 10, share=0.5, num_steps=20)) == 0.0
    assert float(schedules.factor("rising", 10, share=0.5, num_steps=20)) == 1.0
    assert float(schedules.factor("curriculum", 0, share=0.5, num_steps=20)) == 0.0


def test_mistakes_are_named():
    with pytest.raises(
        ValueError,
        match="shape: 'linear'; allowed: constant, early, late, falling, rising, curriculum",
    ):
        schedules.factor("linear", 0, share=0.5, num_steps=10)
    with pytest.raises(ValueError, match="share is 1.5; it must be in"):
        schedules.factor("early", 0, share=1.5, num_steps=10)
