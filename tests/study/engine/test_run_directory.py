"""What a run directory says about itself, what may join it, and what it refuses."""

import dataclasses
import json
from math import inf

import pytest

from jaxreg.attention import BITS_VERSION
from jaxreg.cli.live_display import Silent
from jaxreg.errors import UserErrors
from jaxreg.store import code_version
from jaxreg.store.member_store import Record
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.engine import members, run_directory
from tests.helpers import tiny

ARMS = {
    "none": Arm("nothing", predict=0.0),
    "stop": Arm("stops", {"stopping.patience_evals": 2.0}, predict=None),
}
DESIGN = Experiment(
    name="own",
    question="Which?",
    config="c.py",
    baseline="none",
    arms=ARMS,
    seeds=(3, 4),
    primary="recombination",
    margin=0.05,
    alpha=0.05,
    prediction="none of them",
)
HERE = {"jax": "1", "devices": 2, "cores": 2}


class Notes(Silent):
    """Keeps the notes."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def begin(workdir, *, design=DESIGN, changes=None, seeds=(3, 4), fingerprint=HERE):
    """Starts a run and returns the notes it made."""
    shown = Notes()
    arms = {
        name: tiny.config((changes or {}) | dict(arm.diff)) for name, arm in design.arms.items()
    }
    run_directory.begin(workdir, design, tiny.config(changes), arms, seeds, fingerprint, shown)
    return shown.notes


def read(path):
    return json.loads(path.read_text())


def test_a_run_from_before_a_field_was_added_goes_on_and_is_read(tmp_path):
    begin(tmp_path)
    path = tmp_path / "config.json"
    old = read(path)
    for config in (old["config"], *old["arms"].values()):
        assert config["model"].pop("dtype") == "float32"
    path.write_text(json.dumps(old))
    assert set(run_directory.read(tmp_path)[2]) == set(ARMS)
    assert begin(tmp_path) == []
    path.write_text(json.dumps(old))
    (tmp_path / "results.json").touch()
    with pytest.raises(UserErrors) as error:
        begin(tmp_path, changes={"model.dtype": "bfloat16"})
    [line] = error.value.mistakes
    assert "was run with model.dtype='float32', not 'bfloat16'" in line


def test_config_json_holds_the_whole_design(tmp_path):
    assert begin(tmp_path) == []
    config = read(tmp_path / "config.json")
    assert set(config) == {
        "experiment",
        "config",
        "arms",
        "seeds",
        "declared",
        "own_files",
        "own_pieces",
        "bits_version",
        "code_version",
    }
    assert (
        config["bits_version"] == BITS_VERSION == 1
        and config["code_version"] == code_version.code_version()
    )
    assert config["experiment"]["question"] == "Which?" and config["experiment"]["arms"]["stop"][
        "diff"
    ] == {"stopping.patience_evals": 2.0}
    assert config["seeds"] == [3, 4] and set(config["arms"]) == {"none", "stop"}
    assert (
        config["config"]["stopping"]["patience_evals"] == inf
        and config["arms"]["stop"]["stopping"]["patience_evals"] == 2.0
    )
    assert set(config["config"]) == set(tiny.config()), "every field is there, resolved"


def test_environment_json_says_on_what_it_ran(tmp_path):
    begin(tmp_path)
    environment = read(tmp_path / "environment.json")
    assert set(environment) == {
        "jaxreg",
        "python",
        "versions",
        "git_commit",
        "started",
        "fingerprint",
        "mixed_fingerprints",
    }
    assert environment["fingerprint"] == HERE and environment["mixed_fingerprints"] is False
    assert {"jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"} <= set(
        environment["versions"]
    )
    assert environment["git_commit"] is None or len(environment["git_commit"]) == 40
    assert environment["started"].endswith("+00:00")


def test_what_was_written_is_read_back(tmp_path):
    begin(tmp_path)
    experiment, _, arms, seeds = run_directory.read(tmp_path)
    assert experiment == dataclasses.replace(DESIGN, seeds=(3, 4)) and seeds == [3, 4]
    draw = lambda data, seed: f"{seed}"  # noqa: E731
    again = members.make_specs(experiment.arms, arms, seeds, draw, run_directory.code_of(tmp_path))
    resolved = {name: tiny.config(arm.diff) for name, arm in ARMS.items()}
    assert [spec.hash for spec in again] == [
        spec.hash for spec in members.make_specs(ARMS, resolved, (3, 4), draw)
    ]
    with pytest.raises(UserErrors, match="no config.json there; it is no run directory"):
        run_directory.read(tmp_path / "elsewhere")
    assert run_directory.read_results(tmp_path) == {}


def test_more_seeds_other_arms_and_other_saving_may_join(tmp_path):
    begin(tmp_path)
    more = dataclasses.replace(
        DESIGN,
        arms={**ARMS, "decay": Arm("decays", {"optim.weight_decay": 1.0})},
        question="Which now?",
    )
    assert (
        begin(tmp_path, design=more, seeds=(3, 4, 5), changes={"checkpoint.every_seconds": 1.0})
        == []
    )
    assert (
        read(tmp_path / "config.json")["seeds"] == [3, 4, 5]
        and "decay" in read(tmp_path / "config.json")["arms"]
    )


@pytest.mark.parametrize("work", ["members/0", "checkpoints/0", "results.json"])
def test_another_experiment_or_base_config_is_refused_with_a_line_per_difference(tmp_path, work):
    begin(tmp_path)
    (tmp_path / work).parent.mkdir(exist_ok=True)
    (tmp_path / work).touch()
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(UserErrors) as raised:
        begin(
            tmp_path,
            design=dataclasses.replace(DESIGN, name="other"),
            changes={
                "optim.learning_rate": 0.5,
                "train.num_steps": 51,
                "stopping.patience_evals": 3.0,
            },
        )
    lines = raised.value.mistakes
    assert len(lines) == 4 and all(
        str(tmp_path) in line and "choose another --workdir" in line for line in lines
    )
    assert "holds experiment 'own', not 'other'" in lines[0]
    assert any("optim.learning_rate=0.01, not 0.5" in line for line in lines) and any(
        "train.num_steps=50, not 51" in line for line in lines
    )
    assert any("stopping.patience_evals=inf, not 3.0" in line for line in lines)
    assert (tmp_path / "config.json").read_bytes() == before, "nothing was overwritten"


def test_a_run_that_saved_nothing_does_not_claim_its_directory(tmp_path):
    begin(tmp_path)
    begin(tmp_path, changes={"optim.learning_rate": 0.5})
    assert read(tmp_path / "config.json")["config"]["optim"]["learning_rate"] == 0.5


def test_another_machine_is_noted_and_the_mark_stays(tmp_path):
    begin(tmp_path)
    [note] = begin(tmp_path, fingerprint=HERE | {"devices": 4, "cores": 8})
    assert "devices, cores changed" in note and "last bits" in note
    assert read(tmp_path / "environment.json")["mixed_fingerprints"] is True
    assert begin(tmp_path, fingerprint=HERE | {"devices": 4, "cores": 8}) == []
    assert read(tmp_path / "environment.json")["mixed_fingerprints"] is True, (
        "once mixed, always mixed"
    )


def test_members_of_another_machine_are_counted_and_mark_the_run(tmp_path):
    begin(tmp_path)
    shown = Notes()
    own, other, both = (
        Record({}, {"fingerprint": f})
        for f in (HERE, HERE | {"jax": "2"}, {"several": [HERE, HERE | {"jax": "2"}]})
    )
    run_directory.mark_foreign(tmp_path, [own, own], HERE, shown)
    assert shown.notes == [] and read(tmp_path / "environment.json")["mixed_fingerprints"] is False
    run_directory.mark_foreign(tmp_path, [own, other, both], HERE, shown)
    assert len(shown.notes) == 1 and shown.notes[0].startswith(
        "2 members were trained on another machine"
    )
    assert read(tmp_path / "environment.json")["mixed_fingerprints"] is True


def test_killed_between_its_two_files_it_starts_again(tmp_path):
    begin(tmp_path)
    (tmp_path / "environment.json").unlink()
    assert begin(tmp_path) == [] and (tmp_path / "environment.json").exists()
