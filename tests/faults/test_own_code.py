"""An exception in a person's own penalty: their traceback first, the last good step kept, and no
word of a defect of ours.
"""

import pytest

from tests.helpers import own_experiment as own
from tests.helpers.place import Place, same

WORDS = (
    *("compare", "experiments/own.py", "--devices=1", "--seeds=1", "--arms=none,mine"),
    "--config.train.num_steps=150",  # fifteen saves an arm
)
WHILE_TRAINING = """def look(x):
            if os.path.exists("FAIL"):
                raise KeyError("the file of mine is gone")
            return np.zeros(x.shape[:1], np.float32)

        shape = jax.ShapeDtypeStruct(seen.logits.shape[:1], jnp.float32)
        looked = jax.pure_callback(look, shape, jax.lax.stop_gradient(seen.logits))
        return jnp.sum(seen.logits**2, axis=-1) + looked"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    made = Place(tmp_path_factory.mktemp("place"))
    (made.folder / "configs" / "bits.py").write_text(own.CONFIG)
    return made


@pytest.mark.system
def test_while_it_trains(place):
    (place.folder / "experiments" / "own.py").write_text(own.broken((own.PENALTY, WHILE_TRAINING)))
    undisturbed, run = place.run("undisturbed"), place.run("failing")
    undisturbed.finish(*WORDS)
    process = run.start(*WORDS)
    # The second structure, with the penalty in it, is under way: a checkpoint after the first
    # member.
    assert run.until(process, lambda: run.members() and run.saved() > 18)
    (place.folder / "FAIL").touch()
    assert process.wait(timeout=300) == 2, run.output()
    said, kept = run.output(), run.saved()
    own_file = str(place.folder / "experiments" / "own.py")
    assert "KeyError: 'the file of mine is gone'" in said and f'File "{own_file}"' in said
    assert said.index("Traceback") < said.index(
        f"jaxreg compare: the exception comes from {own_file}, not from jaxreg"
    )
    assert "defect of jaxreg" not in said and kept > 18
    (place.folder / "FAIL").unlink()
    run.finish(*WORDS)
    same(run, undisturbed)


@pytest.mark.system
def test_when_it_is_compiled(place):
    (place.folder / "experiments" / "own.py").write_text(
        own.broken((own.PENALTY, "return seen.nothing"))
    )
    run = place.run("broken")
    assert run.start(*WORDS).wait(timeout=300) == 2, run.output()
    said = run.output()
    trace = said[said.index("Traceback") :].splitlines()
    assert "own.py" in trace[1] and "return seen.nothing" in trace[2], (
        "the person's own line comes first"
    )
    assert (
        "'Seen' object has no attribute 'nothing'" in said
        and "the exception comes from there, not from jaxreg" in said
    )
    assert "defect of jaxreg" not in said and run.members(), "the arm before it is kept"
