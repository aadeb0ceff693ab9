"""What programs need of a device, here of the CPU's devices, against sizes from shapes."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxreg.study.planning import footprint as module
from jaxreg.study.planning.footprint import OutOfMemory, footprint, smaller
from tests.helpers import tiny


def found(changes=None, devices=2):
    return footprint(tiny.config(changes), tiny.dataset(1), jax.devices()[:devices])


@pytest.fixture(scope="module")
def small():
    return found()


def test_sizes_follow_from_the_state(small):
    own = tiny.setting()
    state = own.wave([own.job(1)]).state
    params = sum(x.nbytes for x in jax.tree.leaves(state.params)) // 6  # of six members
    whole = sum(x.nbytes for x in jax.tree.leaves(state)) // 6
    assert small.members == 3 and not small.at_once
    assert 4 * small.parameters == params and small.host_state_bytes == whole + params
    assert small.parameter_bytes == pytest.approx(3 * params, rel=0.01)
    assert small.state_bytes == pytest.approx(3 * (whole + params), rel=0.02)
    assert small.draw_bytes > small.table_bytes / 10 > 0


def test_the_peak_holds_what_lies_on_the_device_at_once(small):
    assert small.peak_program in ("advance", "score", "keep", "evaluated")
    assert small.peak_bytes > small.state_bytes + small.code_bytes
    assert small.peak_bytes > small.argument_bytes
    assert small.temporary_bytes > 0 and small.step_operations > 10 < small.pass_operations


def test_flop_are_those_of_the_formula(small):
    """Forward and twice as much backward: per token and layer 4 D D + 2 D F, and attention."""
    width, hidden, length, batch = 8, 8, 12, 8
    per_token = 2 * (4 * width * width + 2 * width * hidden)
    attention = 2 * 2 * length * length * width
    output = 2 * width * len(tiny.dataset(1).outputs)
    forward = batch * (length * per_token + attention + output)
    assert small.step_flop == pytest.approx(3 * forward, rel=0.05)
    rows = tiny.config()["data"]["num_train"]  # of the longest pass
    assert small.pass_flop == pytest.approx(forward * rows / batch, rel=0.05)


def test_passes_are_the_curves_at_every_evaluation_and_the_others_at_the_end(small):
    passes = len(tiny.setting().plan.pass_rows)
    assert small.scored_passes == 5 * 3 + passes - 3


@pytest.mark.system
def test_more_members_need_more_and_proportion_says_how_many_fit(small):
    many = found({"train.members_per_device": 6})
    assert many.step_flop == small.step_flop and many.parameters == small.parameters
    assert many.state_bytes == pytest.approx(2 * small.state_bytes, rel=0.01)
    assert many.peak_bytes > small.peak_bytes
    assert small.most_members(small.peak_bytes) == 3 and small.most_members(0) == 0
    assert small.most_members(many.peak_bytes) == pytest.approx(6, abs=1)
    at_once = found(tiny.AT_ONCE)
    assert at_once.at_once and at_once.step_flop == small.step_flop


@pytest.mark.system
def test_a_shared_batch_halves_the_flop_of_a_device(small):
    shared = found({"train.layout": "data"})
    assert shared.members == 1 and shared.step_flop == pytest.approx(small.step_flop / 2, rel=0.01)


def test_a_program_that_the_compiler_refuses(monkeypatch):
    def refuse(*arguments, **options):
        raise jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: E1000: Ran out of memory on HBM, the total memory required for HLO"
            " temporaries (20.50G) exceeds available HBM (15.75G)."
        )

    monkeypatch.setattr(module, "compile_programs", refuse)
    with pytest.raises(OutOfMemory) as raised:
        found()
    assert raised.value.needed == 20.5 * 2**30
    monkeypatch.setattr(
        module, "compile_programs", lambda *a, **o: (_ for _ in ()).throw(KeyError(1))
    )
    with pytest.raises(KeyError):
        found()


def test_smaller_configs_leave_the_results_alone_first():
    config = tiny.config({"train.members_per_device": 4})  # batches of 8
    again = {"train.layout": "data", "model.remat": "block"}
    assert list(smaller(config, 2)) == [
        {"train.members_per_device": 2},
        {"train.members_per_device": 1},
        {"train.layout": "data"},
        again,
        again | {"train.accumulate_steps": 2},
        again | {"train.accumulate_steps": 4},  # one example of each device
        again | {"train.accumulate_steps": 4, "model.dtype": "bfloat16"},
    ]
    alone = list(smaller(config, 1))[-1]
    assert alone["train.accumulate_steps"] == 8 and "train.layout" not in alone
    assert "train.layout" not in list(smaller(config, 3))[-1], "8 cannot be shared by 3"
    data = tiny.config({"train.layout": "data"})
    assert all("members" not in field for each in smaller(data, 2) for field in each)


def test_a_footprint_is_numbers_that_json_has(small):
    values = dataclasses.asdict(small).values()
    assert all(
        isinstance(value, int | str) and not isinstance(value, np.integer) for value in values
    )
