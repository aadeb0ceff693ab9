"""Every data set goes the whole way, tiny: config, training, results, story, report, and a look at
one sentence.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxreg.cli.live_display import Silent
from jaxreg.data import SOURCES
from jaxreg.errors import UserErrors
from jaxreg.store.member_store import Records
from jaxreg.study.analysis import controls
from jaxreg.study.commands import compare, inspect
from jaxreg.study.design import config
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.engine import off_values, scope
from jaxreg.study.engine.dataset_loader import Library
from jaxreg.study.engine.members import make_specs, plain
from jaxreg.study.report.payload import rebuild
from tests.helpers import tiny

ARMS = {
    "none": Arm("none", predict=0.0),
    "drop": Arm("drop", {"model.attention_dropout_rate": 0.4}, predict=1.0),
}
IN_SHORT = ("digits", "modn")  # patches and tokens; all the others are system tests
NEW = [name for name in SOURCES if name != "catsat"]


def small(name: str) -> dict:
    """The tiny config of a data set: its defaults, few rows, six steps."""
    values = config.with_dataset(config.flat(tiny.config()), name)
    values |= {
        "data.num_eval": 24,
        "train.num_steps": 6,
        "train.batch_size": 8,
        "train.members_per_device": 1,
        "eval.every_steps": 3,
    }
    values["model.causal"] = SOURCES[name].answers == "every_position"
    values |= {"optim.warmup_steps": 2, "data.num_train": {"modn": 64}.get(name, 48)}
    assert config.validate(values) == []
    return plain(config._nested(values))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=() if name in IN_SHORT else pytest.mark.system) for name in NEW
    ],
)
def ran(request, tmp_path_factory):
    """(name, run directory, what was said) of a comparison of two arms at one seed."""
    name = request.param
    workdir, patch = tmp_path_factory.mktemp(name) / "run", pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)
    patch.setenv("JAXREG_DATA", str(tiny.data_dir()))
    patch.setattr(
        off_values, "off_value", lambda *arguments: {"passed": True, "what": "w", "detail": "d"}
    )  # has its own tests
    base = small(name)
    arms = {
        arm: {
            **base,
            "model": {
                **base["model"],
                **{key.removeprefix("model."): v for key, v in entry.diff.items()},
            },
        }
        for arm, entry in ARMS.items()
    }
    design = Experiment(
        name=name,
        question="Which?",
        config="c.py",
        baseline="none",
        arms=ARMS,
        seeds=(1,),
        primary=SOURCES[name].primary,
        margin=0.05,
        alpha=0.05,
        prediction="none",
    )
    said = []

    class Shown(Silent):
        def closing(self, headline, **rest):
            said.extend(headline)

    assert compare.compare(design, base, arms, (1,), workdir, display=Shown()) == 0
    return name, workdir, said


@pytest.mark.system
def test_results_have_every_view_of_the_draw(ran):
    name, workdir, said = ran
    found = json.loads((workdir / "results.json").read_text())
    settings = {key: value for key, value in small(name)["data"].items() if key != "dataset"}
    dataset = SOURCES[name].load(seed=1, cache_dir=tiny.data_dir(), **settings)
    assert list(found["arms"]["drop"]) == [view.name for view in dataset.views]
    assert {row["split"] for row in found["comparisons"] if row["verdict"]} == {
        SOURCES[name].primary
    }
    chance = next(
        dataset.chance_of(view) for view in dataset.views if view.name == SOURCES[name].primary
    )
    # Six steps do not beat the unigram model, which next tokens are held against.
    guess = "unigram" if dataset.answers == "every_position" else f"(chance {100 * chance:.3g}%)"
    assert guess in said[0]
    assert "nan" not in " ".join(said).lower().replace("nano", "")
    at_chance = {f"{view.name}_at_chance" for view in dataset.views if view.at_chance}
    assert at_chance == {control for control in found["controls"] if control.endswith("_at_chance")}


@pytest.mark.system
def test_accuracies_are_the_hits_of_the_members_scored_again_by_hand(ran):
    """From the stored parameters, row by row of two views, in numpy, by the rule of the split's own
    foils.
    """
    import jax.numpy as jnp

    from jaxreg.study.engine import program
    from jaxreg.study.report.example_sentence import trained_model

    name, workdir, _ = ran
    base = small(name)
    library = Library(tiny.data_dir())
    [spec] = make_specs({"none": ARMS["none"]}, {"none": base}, [1], library.request)
    dataset = library[spec.data]
    library.close()
    record = Records(workdir / "members").get(spec.hash)
    model, params = trained_model(spec, record, dataset)
    found = json.loads((workdir / "results.json").read_text())["arms"]["none"]
    for view in (dataset.views[1], dataset.views[-1]):
        batch = {
            key: jnp.asarray(x)
            for key, x in program.pass_batch(dataset, view.split, view.cut).items()
        }
        fresh = (
            program.with_fresh_rows(params, 1, program.Vocabulary.of(dataset))
            if view.fresh
            else params
        )
        logits, split = np.asarray(program.predict(model, fresh, batch)), dataset.splits[view.split]
        hits = []
        for row in np.flatnonzero(dataset.view_weights(view)):
            if dataset.answers == "every_position":
                rows = zip(logits[row], split.label[row], strict=True)
                hits.append(np.mean([x[y] > np.delete(x, y).max() for x, y in rows]))
                continue
            others = (
                np.delete(logits[row], split.label[row])
                if split.foil[row] < 0
                else logits[row, [split.foil[row]]]
            )
            hits.append(float(logits[row, split.label[row]] > others.max()))
        assert found[view.name]["mean"] == pytest.approx(np.mean(hits), abs=1.5 / len(hits)), (
            view.name
        )


@pytest.mark.system
def test_the_report_is_made_from_disk_and_names_no_views_that_are_not_there(ran):
    name, workdir, _ = ran
    (workdir / "report.html").unlink()
    payload = rebuild(workdir)
    assert (workdir / "report.html").stat().st_size > 10_000 and (
        workdir / "picture.png"
    ).read_bytes()[:4] == b"\x89PNG"
    assert payload["pathways"] == {}, "the page's section on noun and determiner is CATSAT's"
    cues = SOURCES[name].legend(SOURCES[name].settings(seed=1)).cue_names
    assert bool(payload["attention_mass"]) == ({"noun", "determiner"} <= set(cues))
    assert f"; {name}, " in payload["scope"] and {view["name"] for view in payload["views"]} == set(
        payload["table"]["none"]
    )
    assert all(view["asked"] and view["trained"] for view in payload["views"])


@pytest.mark.system
def test_one_sentence_can_be_looked_at(ran):
    name, workdir, _ = ran
    if name in ("digits", "images"):
        with pytest.raises(UserErrors, match=f"{name} has no words"):
            inspect.matrices(workdir, "drop", 1, 2, None)
        return
    text = "the cat" if SOURCES[name].answers == "every_position" else None
    found = inspect.matrices(workdir, "drop", 1, 2, text)
    assert (
        found.weights.shape == found.kept.shape and found.weights.shape[-1] == len(found.words) > 1
    )
    np.testing.assert_allclose(found.weights.sum(-1), 1, atol=1e-5)
    assert not found.kept.all() and (found.query >= 0) == (text is None)
    if text is None:  # of bytes it is three
        with pytest.raises(UserErrors, match="--text: .€. is not a word of"):
            inspect.matrices(workdir, "drop", 1, 2, "€")


def test_the_scope_names_what_is_not_the_default():
    base = small("cues")
    base["data"]["rho"] = 1.0
    line = scope.scope(base, (1, 2))
    assert (
        "; cues, 48 rows, " in line
        and "rho 1.0" in line
        and "noise_rate" not in line
        and "verbs" not in line
    )
    assert "catsat, 32 sentences, 4 verbs per noun, num_eval 24; batch" in scope.scope(
        tiny.config(), (1,)
    )


def test_chance_and_the_views_that_must_be_at_it_come_from_the_data_set():
    assert not hasattr(controls, "CHANCE") and not hasattr(controls, "MUST_BE_CHANCE")
    assert [view.name for view in SOURCES["catsat"].views if view.at_chance] == [
        "novel_word_neutral",
        "both_cut_plain",
    ]


def test_configs_of_a_data_set_say_every_setting_and_where_they_differ_from_the_default():
    folder = Path(tiny.ROOT) / "configs"
    covered = {name: config.load_config(folder / f"{name}.py") for name in NEW}
    for name, own in covered.items():
        assert own.data.dataset == name and set(own.data) == {"dataset", *SOURCES[name].defaults()}
        assert set(own.eval.curves) <= {view.name for view in SOURCES[name].views}
