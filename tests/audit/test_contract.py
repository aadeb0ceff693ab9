"""What a subject's functions take and return is looked at first: one line each, with the cure."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxreg import audit
from jaxreg.audit import contract, suite
from jaxreg.audit.bench import Bench
from jaxreg.cli import main as cli
from jaxreg.errors import MISTAKE, UserErrors
from tests.audit.tiny_subject import subject


class Pair(NamedTuple):
    """A state that is a tuple."""

    params: Any
    step: Any


def sgd(state, batch, key):
    """One step of gradient descent, and the loss before it."""
    plain = subject()

    def mean(params):
        return plain.loss(params, batch, key, True).mean()

    loss, gradient = jax.value_and_grad(mean)(state)
    return jax.tree.map(lambda p, g: p - 0.01 * g, state, gradient), loss


def mistakes(**fields) -> list[str]:
    """The lines on the tiny subject with other functions."""
    with pytest.raises(UserErrors) as raised:
        audit.run(dataclasses.replace(subject(), **fields), ["key_matters"])
    return raised.value.mistakes


def test_a_step_may_return_the_state_and_more():
    plain = subject()
    alone = dataclasses.replace(plain, step=lambda s, b, k: sgd(s, b, k)[0])
    for step in (sgd, lambda s, b, k: list(sgd(s, b, k))):
        bench = suite.begin(dataclasses.replace(plain, step=step))
        assert bench.gap(bench.step(), Bench(alone).step()) == 0
    names = ("steps_differ", "loss_step_size", "resume_next_step")
    found = audit.run(dataclasses.replace(plain, step=sgd), names)
    assert [each.status for each in found][::2] == ["ok", "ok"], found


def test_a_state_that_is_a_tuple_is_the_state():
    plain = subject()
    own = dataclasses.replace(
        plain,
        init=lambda key: Pair(plain.init(key), 0),
        loss=lambda state, batch, key, train: plain.loss(state.params, batch, key, train),
    )
    for step in (
        lambda s, b, k: Pair(sgd(s.params, b, k)[0], s.step + 1),
        lambda s, b, k: (Pair(sgd(s.params, b, k)[0], s.step + 1), {"loss": 0.0}),
    ):
        after = suite.begin(dataclasses.replace(own, step=step)).step()
        assert isinstance(after, Pair) and after.step == 1


def loss_without_train(state, batch, key):
    """A loss of three arguments."""


def step_by_name(state, batch, *, key):
    """A step that takes its key by name."""


def test_a_wrong_number_of_arguments_is_said_for_all_functions_at_once():
    assert mistakes(loss=loss_without_train, step=step_by_name, init=lambda: 0) == [
        "`init` is called as init(key), and yours takes (); give init=lambda key: ...",
        "`loss` is called as loss(state, batch, key, train), and yours takes (state, batch, key);"
        " give loss=lambda state, batch, key, train: loss_without_train(state, batch, key)",
        "`step` is called as step(state, batch, key), and yours takes (state, batch, *, key); give"
        " step=lambda state, batch, key: step_by_name(state, batch, key=key)",
    ]


def loss_and_state(state, batch, key):
    """The loss first."""
    return sgd(state, batch, key)[::-1]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"step": loss_and_state},
            "`step` returned a tuple (array [], dict); it must return the state (dict), or a tuple"
            " that begins with it: step=lambda state, batch, key: loss_and_state(state, batch,"
            " key)[1]",
        ),
        (
            {"step": lambda s, b, k: None},
            "`step` returned None; it must return the state (dict), or a tuple that begins with it",
        ),
        (
            {"loss": lambda s, b, k, train: (jnp.zeros(8), {})},
            "`loss` returned a tuple (array [8], dict) for 8 examples; it must return their losses"
            " [8], or the mean []: loss=lambda state, batch, key, train: ...[0]",
        ),
        (
            {"loss": lambda s, b, k, train: jnp.zeros((8, 4))},
            "`loss` returned an array [8, 4] for 8 examples; it must return their losses [8], or"
            " the mean []: take the mean over all axes but the first",
        ),
        (
            {"batch": lambda seed, size: {"x": jnp.zeros((3, 4))}},
            "`batch` was asked for 8 examples and returned 3 examples; it must return arrays with"
            " the examples along the first axis",
        ),
        (
            {"pad": lambda batch, n: None},
            "`pad` was asked for 1 more position a row and returned None; it must return the batch"
            " (a dict of x, y) with n positions of padding at the end of every row",
        ),
        (
            {"pad": lambda batch, n: batch},
            "`pad` was asked for 1 more position a row and returned the same shapes; it must return"
            " the batch (a dict of x, y) with n positions of padding at the end of every row",
        ),
        (
            {"init": lambda key: None},
            "`init` returned None; it must return the state: init=lambda key: state",
        ),
    ],
    ids=[
        "step's pair",
        "step's None",
        "loss's pair",
        "loss of tokens",
        "batch",
        "pad",
        "padless",
        "init",
    ],
)
def test_what_comes_back_is_said_with_its_cure(fields, said):
    assert mistakes(**fields) == [said]


class Counting(nnx.Module):
    """A model that is the state, with a stream that dropout moves on."""

    def __init__(self, rngs):
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(4, 1, rngs=rngs)


CHANGES = (
    "`{}` changes the state that it was given, in {} leaves; change a copy{} (in NNX:"
    " nnx.merge(..., copy=True), or nnx.clone)"
)


@pytest.mark.parametrize("look", [lambda x: x, float], ids=["traced", "cannot be traced"])
@pytest.mark.parametrize("copied", [True, False], ids=["a copy", "in place"])
def test_a_state_that_is_changed_in_place_is_said_once_before_any_check(look, copied):
    own = nnx.clone if copied else lambda state: state

    def loss(state, batch, key, train):
        model = own(state)
        model.train() if train else model.eval()
        found = (model.out(model.dropout(jnp.asarray(batch["x"])))[:, 0] - batch["y"]) ** 2
        look(found.mean())
        return found

    def with_params(state, params):
        model = nnx.clone(state)
        nnx.update(model, params)
        return model

    def step(state, batch, key):
        model = own(state)
        gradient = nnx.grad(lambda model: loss(model, batch, key, True).mean())(model)
        moved = jax.tree.map(lambda p, g: p - g, nnx.state(model, nnx.Param), gradient)
        nnx.update(model, moved)
        return model, look(jnp.zeros(()))

    fields = {"init": lambda key: Counting(nnx.Rngs(key)), "loss": loss, "step": step}
    fields |= {"params": lambda state: nnx.state(state, nnx.Param), "with_params": with_params}
    if look is float:  # neither Flax nor JAX takes a gradient of a loss that looks at it
        fields["step"] = lambda state, batch, key: (loss(state, batch, key, True), own(state))[1]
    if copied:
        assert suite.begin(dataclasses.replace(subject(), **fields))
        return
    said = [
        CHANGES.format("loss", "1 of 4", ""),
        CHANGES.format("step", "3 of 4", " and return it"),
    ]
    if look is float:
        said[1] = said[1].replace("3 of 4", "1 of 4")
    assert mistakes(**fields) == said


AUDIT = """import dataclasses
from tests.audit import tiny_subject
def step(state, batch):
    return state
def get_subject():
    return dataclasses.replace(tiny_subject.subject(), step=lambda s, b, key: step(s))
"""


def test_a_mistake_inside_a_call_is_theirs_with_their_traceback_alone(tmp_path, capsys):
    file = tmp_path / "audit_mine.py"
    file.write_text(AUDIT)
    assert cli.main(["audit", str(file), "--checks=key_matters"]) == MISTAKE
    out, err = capsys.readouterr()
    *trace, last = err.splitlines()
    assert last == (
        f"jaxreg audit: {file}, line 6, in <lambda>: TypeError: step() missing 1 required"
        " positional argument: 'batch'; in the first call of step(state, batch, key)"
    )
    assert trace[0].startswith("Traceback") and sum("  File" in line for line in trace) == 1, err
    for word in ("defect of jaxreg", "saved", "seen as"):
        assert word not in err and word not in out


def test_what_a_check_meets_later_is_told_without_the_words_of_the_check():
    from jaxreg.audit import report

    def update(state, gradients):
        raise ZeroDivisionError("theirs")

    found = audit.run(dataclasses.replace(subject(), update=update), ["schedule_moves"])
    assert report.failure_lines(found) == [
        "schedule_moves: raised ZeroDivisionError: theirs",
        "  its traceback stands above; the check could not be made",
    ]


def test_an_exception_of_jaxreg_s_own_is_no_mistake_of_theirs():
    assert contract.their_mistake(ValueError("ours")) is None
