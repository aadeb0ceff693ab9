"""A person's own claim: a file outside the repository with its own TFDS data set, Flax module and
penalty. The page's own example runs.
"""

import json
import re
from pathlib import Path

import pytest

from jaxreg.errors import UserErrors
from jaxreg.study.design import components, experiment
from jaxreg.study.design import config as configs
from jaxreg.study.design.components import Own
from jaxreg.study.engine import members, run_directory

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "experiments" / "README.md").read_text()
QUICK = (
    "--seeds=2",
    "--config.train.num_steps=20",
    "--config.eval.every_steps=10",
    "--config.optim.warmup_steps=2",
)


def files_of_the_page() -> dict[str, str]:
    return dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder that is no clone, with the page's files in it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name, text in files_of_the_page().items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(autouse=True)
def ours_only_afterwards():
    yield
    components.forget()


@pytest.fixture(scope="module")
def finished(place, jaxreg_command):
    [command] = re.findall(r"<!-- command: own -->\n```bash\njaxreg (.*?)\n```", PAGE)
    return jaxreg_command(*command.split(), *QUICK, cwd=place), place / "runs" / "parity"


def test_the_page_s_own_claim_runs_outside_the_repository(finished):
    done, run = finished
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((run / "results.json").read_text())
    assert set(results["arms"]) == {"none", "small_logits", "dropout", "transformer"}
    assert results["controls"]["off_value"]["passed"] is True
    accuracies = {arm: tuple(row["validation"]["per_seed"]) for arm, row in results["arms"].items()}
    assert len(set(accuracies.values())) > 1 and (run / "report.html").stat().st_size > 10_000


def test_the_penalty_and_the_module_s_rate_really_train(finished):
    _, run = finished
    losses = {}
    for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        if "machine" not in row and row["split"] == "train" and row["step"] == 20:
            losses.setdefault(row["arm"], []).append(row["train_mode_loss"])
    assert losses["small_logits"] != losses["none"] and losses["dropout"] != losses["none"]


@pytest.mark.system
def test_the_report_finds_the_pieces_again_and_refuses_changed_ones(
    finished, place, jaxreg_command
):
    _, run = finished
    again = jaxreg_command("report", str(run), cwd=place)
    assert again.returncode == 0, again.stdout + again.stderr
    file = place / "own" / "parity.py"
    text = file.read_text()
    file.write_text(text.replace("seen.logits**2", "seen.logits**4"))
    try:
        refused = jaxreg_command("report", str(run), cwd=place)
    finally:
        file.write_text(text)
    assert (
        refused.returncode == 2
        and "parity.py has changed since" in refused.stderr
        and len(refused.stderr.splitlines()) == 1
    )


def load(place):
    design = experiment.load_experiment(place / "own" / "parity.py")
    base, mistakes = configs.read_config(place / "own" / "config.py", ())
    assert mistakes == []
    return design, base, configs.resolve_arms(design, base)


def test_fields_follow_from_the_pieces(place):
    _, base, arms = load(place)
    assert (
        dict(base.model) == {"module": "mixer", "width": 24, "feature_dropout_rate": 0.0}
        and base.data.dataset == "parity"
    )
    assert (
        base.loss.logit_norm_strength is None
        and arms["small_logits"].loss.logit_norm_strength == 0.01
    )
    assert arms["transformer"].model.num_layers == 2, "the model's own defaults"


@pytest.mark.parametrize(
    "override, words",
    [
        ("model.num_layers=3", "the model mixer has width, feature_dropout_rate"),
        ("model.feature_dropout_rate=1.5", "a number at least 0 and"),
        ("data.neutral_rate=.1", "parity has no such setting; it has num_train, num_eval, length"),
        ("loss.logit_nrm_strength=1", "did you mean loss.logit_norm_strength?"),
        ("model.module=mixr", "did you mean mixer?"),
    ],
)
def test_mistakes_are_told_in_the_words_of_the_pieces(place, override, words):
    experiment.load_experiment(place / "own" / "parity.py")
    _, mistakes = configs.read_config(place / "own" / "config.py", (override,))
    assert len(mistakes) == 1 and words in mistakes[0]


def test_what_the_pieces_say_is_in_the_address_and_the_design_is_not(place):
    text = (place / "own" / "parity.py").read_text()
    own = experiment.load_experiment(place / "own" / "parity.py").own

    def version_of(changed):
        components.forget()
        copy = place / "own" / "copy.py"
        copy.write_text(changed)
        components.adopt(own, copy)
        return members.code_version()

    assert version_of(text) == version_of(text.replace("penalty .01", "another title")), (
        "of get_experiment"
    )
    assert version_of(text) != version_of(text.replace("seen.logits**2", "seen.logits**4"))
    components.forget()
    assert members.code_version() != version_of(text)


def test_wrong_pieces_are_named_all_at_once():
    class Careless:
        what = "nothing"

    own = Own(
        datasets={"catsat": None},
        models={"mixer": dict},
        penalties={"l2": Careless, "mine": Careless},
    )
    mistakes = own.mistakes()
    assert [line.split(":")[0] for line in mistakes] == [
        "own.datasets",
        "own.penalties",
        "own.datasets",
        "own.models",
        "own.penalties",
        "own.penalties",
    ]
    assert any("'mine' has no text `source`" in line for line in mistakes) and any(
        "no Flax Linen module" in line for line in mistakes
    )


@pytest.mark.system
def test_an_exception_in_a_penalty_keeps_the_user_s_traceback_first(place, jaxreg_command):
    file = place / "own" / "broken.py"
    file.write_text(
        (place / "own" / "parity.py")
        .read_text()
        .replace("jnp.sum(seen.logits**2, axis=-1)", "jnp.sum(seen.nothing)")
    )
    done = jaxreg_command("compare", "own/broken.py", "--workdir=runs/broken", *QUICK, cwd=place)
    assert (
        done.returncode == 2
        and "broken.py" in done.stderr
        and "'Seen' object has no attribute 'nothing'" in done.stderr
    )


def test_an_unknown_run_directory_still_says_so(tmp_path):
    with pytest.raises(UserErrors, match="no config.json"):
        run_directory.read(tmp_path)
