"""The contract of a subject: its functions take what they are called with, and return what is read.

It is looked at before any check runs, so that a wrong form is said once, with its cure.
"""

import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxreg.audit.bench import SIZE, Bench
from jaxreg.audit.subject import StateOf
from jaxreg.errors import UserErrors, one_line

CALLS: dict[str, tuple[str, ...]] = {
    "init": ("key",),
    "batch": ("seed", "size"),
    "loss": ("state", "batch", "key", "train"),
    "logits": ("state", "batch", "key", "train"),
    "step": ("state", "batch", "key"),
    "accumulate": ("state", "batch", "key", "parts"),
    "update": ("state", "gradients"),
    "pad": ("batch", "n"),
    "inputs": ("batch",),
    "with_inputs": ("batch", "array"),
    "params": ("state",),
    "with_params": ("state", "params"),
    "learning_rate": ("step",),
    "save": ("state", "path"),
    "restore": ("path", "like"),
}
"""Function of a subject -> what it is called with, by position."""

_FIRST_CALL = "in the first call of"
"""How a note begins that says which function of the person's was called."""
_JAXREG = Path(__file__).resolve().parents[1]
_CALLERS = [_JAXREG / "audit" / f"{name}.py" for name in ("suite", "contract", "bench", "subject")]


def check(bench: Bench) -> None:
    """Calls `init`, `batch`, `pad`, `loss` and `step`, and looks at what they return, and change.

    Raises:
      UserErrors: functions that take or return something else, or change their state in place, one
        line each.
      Exception: what the subject's functions raise, with a note that says which one was called.
    """
    functions = {name: getattr(bench.subject, name) for name in CALLS}
    _raise(
        of_arguments(name, function, CALLS[name])
        for name, function in functions.items()
        if function is not None
    )
    with calling("init"):
        state = bench.first_state
    with calling("batch"):
        batch = bench.batch()
    _raise((_of_state(state), _of_batch(batch)))
    _raise([_of_pad(bench)])
    with calling("params"):
        bench.params(bench.state)
    _raise([*(_of_loss(bench, train) for train in (True, False)), _of_step(bench)])
    _raise(_of_changes(bench))


def _raise(lines: Any) -> None:
    mistakes = list(dict.fromkeys(line for line in lines if line is not None))
    if mistakes:
        raise UserErrors(mistakes)


def of_arguments(name: str, function: Callable, given: tuple[str, ...]) -> str | None:
    """A line where a function does not take the arguments that it is called with, by position."""
    function = function.function if isinstance(function, StateOf) else function
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C, say
        return None
    try:
        signature.bind(*given)
    except TypeError:
        words = ", ".join(given)
        takes = f"({', '.join(_words(signature))})"
        return (
            f"`{name}` is called as {name}({words}), and yours takes {takes}; give"
            f" {name}=lambda {words}: {_passed(function, signature, given)}"
        )
    return None


def _words(signature: inspect.Signature) -> list[str]:
    """The parameters as they are written, without annotations."""
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in _own(signature)]
    return str(inspect.Signature(plain))[1:-1].split(", ") if plain else []


def _own(signature: inspect.Signature) -> list[inspect.Parameter]:
    return list(signature.parameters.values())


def _named(function: Callable) -> str:
    name = getattr(function, "__name__", "")
    return name if name.isidentifier() else "..."


def _passed(function: Callable, signature: inspect.Signature, given: tuple[str, ...]) -> str:
    """How the function may be called with what there is; "..." where the names do not say it."""
    name = _named(function)
    needed = [each for each in _own(signature) if each.default is inspect.Parameter.empty]
    if not needed or not {each.name for each in needed} <= set(given):
        return "..." if name == "..." else f"{name}(...)"
    alone = inspect.Parameter.KEYWORD_ONLY
    words = [p.name if p.kind != alone else f"{p.name}={p.name}" for p in needed]
    return f"{name}({', '.join(words)})"


def _of_state(state: Any) -> str | None:
    if jax.tree.leaves(state):
        return None
    return f"`init` returned {described(state)}; it must return the state: init=lambda key: state"


def _of_batch(batch: Any) -> str | None:
    lengths = [len(x) for x in jax.tree.leaves(batch) if np.ndim(x)]
    if lengths and lengths[0] == SIZE:
        return None
    what = described(batch) if not lengths else f"{lengths[0]} examples"
    return (
        f"`batch` was asked for {SIZE} examples and returned {what}; it must return arrays with the"
        " examples along the first axis"
    )


def _of_pad(bench: Bench) -> str | None:
    pad = bench.subject.pad
    if pad is None:
        return None
    with calling("pad"):
        batches = bench.batch(), pad(bench.batch(), 1)
    forms, shapes = zip(
        *((jax.tree.structure(b), [np.shape(x) for x in jax.tree.leaves(b)]) for b in batches)
    )
    if forms[0] == forms[1] and shapes[0] != shapes[1]:
        return None
    what = "the same shapes" if forms[0] == forms[1] else described(batches[1])
    return (
        f"`pad` was asked for 1 more position a row and returned {what}; it must return the batch"
        f" ({described(batches[0])}) with n positions of padding at the end of every row"
    )


def _of_loss(bench: Bench, train: bool) -> str | None:
    with calling("loss"):
        found = bench.called("loss", bench.subject.loss, None, None, train, None)
    if isinstance(found, jax.Array | np.ndarray | np.generic | float | int):
        if np.shape(found) in ((), (SIZE,)):
            return None
        cure = "take the mean over all axes but the first"
    else:
        parts = found if isinstance(found, tuple | list) else ()
        fits = [i for i, each in enumerate(parts) if np.shape(each) in ((), (SIZE,))]
        cure = f"loss=lambda state, batch, key, train: ...[{fits[0]}]" if fits else ""
    said = f"`loss` returned {described(found)} for {SIZE} examples; it must return their losses"
    return f"{said} [{SIZE}], or the mean []" + (f": {cure}" if cure else "")


def _of_step(bench: Bench) -> str | None:
    step = bench.subject.step
    if step is None:
        return None
    assert isinstance(step, StateOf)  # the bench makes it one
    arguments = (bench.state, bench.batch(), bench.key())
    with calling("step"):
        try:
            found = jax.eval_shape(step, *arguments)  # it need not run
        except Exception:  # it may not be made to be traced
            found = bench.step()
    if step.is_state(found, bench.state):
        return None
    parts = found if isinstance(found, tuple | list) else ()
    fits = [i for i, each in enumerate(parts) if step.is_state(each, bench.state)]
    name = _named(step.function)
    index = f"[{fits[0]}]" if fits else ""
    cure = f": step=lambda state, batch, key: {name}(state, batch, key){index}" if index else ""
    kind = type(bench.state).__name__
    return (
        f"`step` returned {described(found)}; it must return the state ({kind}), or a tuple that"
        f" begins with it{cure}"
    )


def _of_changes(bench: Bench) -> Iterator[str]:
    """A line for the training loss and for the step where they change their state in place.

    Evaluation that does so is a fault that has a check of its own.
    """
    loss, step = bench.subject.loss, bench.subject.step
    calls = {"loss": lambda state, batch, key: loss(state, batch, key, True), "step": step}
    for name, function in calls.items():
        if function is None:
            continue
        with calling(name):
            leaves, changed = bench.changed_in_place(function)
        if changed:
            cure = " and return it" if name == "step" else ""
            yield (
                f"`{name}` changes the state that it was given, in {changed} of {leaves} leaves;"
                f" change a copy{cure} (in NNX: nnx.merge(..., copy=True), or nnx.clone)"
            )


def described(found: Any) -> str:
    """What a function returned, in a few words: "a tuple (TrainState, array [])"."""
    if found is None:
        return "None"
    if hasattr(found, "shape"):
        return f"an array {list(found.shape)}"
    if type(found) in (tuple, list):
        kind = type(found).__name__
        return f"a {kind} ({', '.join(_short(each) for each in found)})"
    if isinstance(found, dict):
        return f"a dict of {', '.join(map(str, list(found)[:5]))}" if found else "an empty dict"
    return f"a {type(found).__name__}"


def _short(found: Any) -> str:
    return f"array {list(found.shape)}" if hasattr(found, "shape") else type(found).__name__


@contextlib.contextmanager
def calling(
    name: str, words: tuple[str, ...] | None = None, hint: Callable[[str], str] = lambda said: ""
) -> Iterator[None]:
    """Notes on what is raised inside, which function of the person's was called, and how.

    Args:
      name: of the function. words: what it is called with; None: as `CALLS` says.
      hint: what was raised, in words -> what stands behind the note.
    """
    try:
        yield
    except UserErrors:
        raise  # it says all that is needed
    except Exception as error:
        given = ", ".join(CALLS[name] if words is None else words)
        error.add_note(f"{_FIRST_CALL} {name}({given}){hint(str(error))}")
        raise


def their_mistake(error: BaseException) -> str | None:
    """One line on what a subject's function raised at its first call; None for anything else."""
    notes = [each for each in getattr(error, "__notes__", ()) if each.startswith(_FIRST_CALL)]
    if not notes:
        return None
    said = f"{type(error).__name__}: {one_line(error, 300)}; {notes[0]}"
    frames = [each for each in _after_the_call(error) if _is_theirs(each)]
    if not frames:
        return said
    return f"{frames[-1].filename}, line {frames[-1].lineno}, in {frames[-1].name}: {said}"


def their_trace(error: BaseException) -> str:
    """An exception's traceback from the first place in a person's own file on."""
    frames = _after_the_call(error)
    first = next((i for i, each in enumerate(frames) if _is_theirs(each)), 0)
    alone = traceback.TracebackException(type(error), error, None)
    alone.__notes__ = []  # ours stands in the line below, and JAX's is of frames that are left out
    lines = [*traceback.format_list(frames[first:]), *alone.format_exception_only()]
    return "".join(["Traceback (most recent call last):\n", *lines])


def _after_the_call(error: BaseException) -> list[traceback.FrameSummary]:
    """The places that an exception came through behind the bench, which calls the subject."""
    frames = list(traceback.extract_tb(error.__traceback__))
    ours = [i for i, each in enumerate(frames) if Path(each.filename).resolve() in _CALLERS]
    return frames[ours[-1] + 1 :] if ours else frames


def _is_theirs(frame: traceback.FrameSummary) -> bool:
    path = Path(frame.filename)
    if frame.filename.startswith("<") or {"site-packages", "dist-packages"} & set(path.parts):
        return False
    return not path.resolve().is_relative_to(_JAXREG)
