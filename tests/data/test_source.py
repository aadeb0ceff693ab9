"""What every data set must keep, ours and a person's own, and the checks of a settings class."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxreg import data
from jaxreg.data import SOURCES, Dataset, View, setting
from jaxreg.data.cache import _digest, _stacked
from jaxreg.data.source import check_settings, fields_of, generator
from jaxreg.study.design import user_files

LONE = Path(__file__).parents[1] / "helpers" / "lone_dataset.py"
NUM_LINES = 10


def test_a_data_set_is_one_line_and_its_name_is_its_key():
    assert all(name == source.name for name, source in SOURCES.items())
    text = Path(data.__file__).read_text()
    table = text[text.index("SOURCES: ") : text.index("}\n")]
    assert len(table.strip().splitlines()) - 1 == len(SOURCES) == NUM_LINES, "one line each"


@pytest.fixture(scope="module", params=list(SOURCES))
def source(request):
    return SOURCES[request.param]


@pytest.fixture(scope="module")
def preview(source):
    return source.preview()


def test_the_default_draw_has_what_the_source_says(source, preview):
    assert tuple(preview.splits) == source.splits and preview.primary == source.primary
    assert (
        {"train", "validation", source.primary}
        <= {view.name for view in preview.views}
        <= {view.name for view in source.views}
    )
    defaults = source.defaults()
    assert len(preview.splits["train"]) == defaults["num_train"]
    assert all(split.tokens.shape[1] == defaults["length"] for split in preview.splits.values())
    assert source.what and "\n" not in source.what and len(source.what) < 120


def test_every_number_means_something(preview):
    for name, split in preview.splits.items():
        rows = np.arange(len(split))
        assert split.tokens.min() >= 0 and split.tokens.max() < len(preview.tokens), name
        assert split.template.min() >= 0 and split.template.max() < len(preview.templates), name
        if preview.answers == "every_position":
            tokens, label = np.asarray(split.tokens), np.asarray(split.label)
            assert split.query_position is None and split.foil is None, name
            assert label.shape == tokens.shape and preview.outputs == preview.tokens, name
            asked = label[:, :-1] >= 0
            assert asked.any() and (label[:, :-1][asked] == tokens[:, 1:][asked]).all(), name
            assert label.max() < len(preview.outputs) and 0 not in label, "padding is no answer"
            continue
        assert (split.tokens[rows, split.query_position] > 0).all(), (
            f"{name}: no answer is read at a padding"
        )
        assert split.label.min() >= 0 and split.label.max() < len(preview.outputs), name
        assert (
            split.foil.min() >= -1
            and split.foil.max() < len(preview.outputs)
            and (split.foil != split.label).all()
        ), name
        assert (
            split.cues.shape == (len(split), len(preview.cue_names))
            and split.cues.min(initial=-1) >= -1
        ), name
        there = split.cues >= 0
        assert (np.take_along_axis(split.tokens, np.maximum(split.cues, 0), 1)[there] > 0).all(), (
            f"{name}: no cue is a padding"
        )
        assert split.tags.shape == (len(split), len(preview.tag_names)), name
        assert len(set(preview.tokens)) == len(preview.tokens) and preview.tokens[0] == "<pad>"


def test_views_name_what_there_is_and_chance_is_a_probability(preview):
    assert len({view.name for view in preview.views}) == len(preview.views)
    for view in preview.views:
        assert set(view.cut) <= set(preview.cue_names) and preview.view_weights(view).any(), (
            view.name
        )
        assert 0 < preview.chance_of(view) < 1
        foil = preview.splits[view.split].foil
        if foil is not None and (foil[preview.view_weights(view) > 0] >= 0).all():
            assert preview.chance_of(view) == 0.5, f"{view.name}: of two answers"


def test_a_seed_is_a_draw_and_the_hash_knows_seed_and_every_setting(source, preview):
    settings = source.settings(seed=0)
    assert _digest(source.draw(settings)) == _digest(preview.splits)
    other = source.settings(seed=1)
    assert _digest(source.draw(other)) != _digest(preview.splits)
    assert source.content_hash(settings) == preview.content_hash != source.content_hash(other)
    hashes = {source.content_hash(source.settings(seed=0))}
    changed = {
        name: value
        for name, value in ((name, another(source, name)) for name in fields_of(source.settings))
        if value is not None
    }
    for name, value in changed.items():
        hashes.add(source.content_hash(source.settings(seed=0, **{name: value})))
    assert len(hashes) == len(changed) + 1


def another(source, name):
    """Another allowed value of a setting, or None where there is none beside the defaults of the
    others.
    """
    field = fields_of(source.settings)[name]
    rule, value = field.metadata, field.default
    if rule["choices"] is not None:
        options = [choice for choice in rule["choices"] if choice != value]
    elif isinstance(value, bool):
        options = [not value]
    elif isinstance(value, str):  # a path or the like: what else there is nobody knows
        options = []
    else:
        step = 1 if isinstance(value, int) else 0.05
        options = [value + step, value - step, 2 * value]
    for option in (each for each in options if each != value):
        try:
            source.content_hash(source.settings(seed=0, **{name: option}))
        except ValueError:
            continue
        return option
    return None


@pytest.mark.short_cases("catsat")
def test_settings_that_promise_equal_shapes_keep_them(source, preview):
    """Members that differ in them share a program."""

    def sizes(dataset):
        shapes = {
            name: {key: array.shape for key, array in split.arrays().items()}
            for name, split in dataset.splits.items()
        }
        legend = (
            dataset.tokens,
            dataset.outputs,
            dataset.templates,
            dataset.cue_names,
            dataset.fresh_tokens.tolist(),
            dataset.fresh_like.tolist(),
        )
        return shapes, legend

    assert set(source.same_shape) <= set(fields_of(source.settings))
    for name in source.same_shape:
        value = another(source, name)
        if value is not None:
            assert sizes(source.preview(**{name: value})) == sizes(preview), name
    own = source.settings(seed=12345)
    assert sizes(source.dataset(source.draw(own), own)) == sizes(preview), (
        "no size depends on the seed"
    )


@pytest.mark.short_cases("catsat")
def test_what_is_loaded_is_what_was_drawn(source, preview, tmp_path):
    loaded = source.load(seed=0, cache_dir=tmp_path)
    assert _digest(loaded.splits) == _digest(preview.splits) and loaded.views == preview.views
    assert _digest(source.load(seed=0, cache_dir=tmp_path).splits) == _digest(preview.splits), (
        "read again from the files"
    )
    kept = [path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*")]
    assert kept == ([] if source.in_files else [f"{source.name}/{preview.content_hash[:16]}"])


def test_splits_are_disjoint_and_the_check_would_find_a_shared_row(preview):
    preview.check_disjoint()
    train, other = preview.splits["train"], preview.splits["validation"]
    arrays = {name: array.copy() for name, array in other.arrays().items()}
    for name, array in arrays.items():
        array[0] = train.arrays()[name][0]
    shared = dataclasses.replace(other, **arrays)
    leaky = dataclasses.replace(preview, splits={**preview.splits, "validation": shared})
    with pytest.raises(ValueError, match="train and validation share"):
        leaky.check_disjoint()


# --- a settings class


@dataclasses.dataclass(frozen=True)
class Toy:
    """One setting of each kind."""

    seed: int
    share: float | int = setting(0.5, "a share", minimum=0.1, maximum=1.0)
    count: int = setting(3, "things", minimum=1)
    way: str = setting("up", "ways", choices=("up", "down"))
    flag: bool = setting(False, "switch")

    def __post_init__(self):
        check_settings(self, "" if self.count != 7 else "data.count is 7; it must not be")


def test_both_ends_of_a_range_are_allowed():
    assert Toy(seed=0, share=1, count=1).share == 1 and Toy(seed=0, share=0.1)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"share": 1.01}, "data.share is 1.01; it must be from 0.1 to 1.0"),
        ({"share": float("nan")}, "data.share is nan"),
        ({"count": 0}, "data.count is 0; it must be at least 1"),
        ({"count": 2.0}, "data.count is 2.0"),
        ({"count": True}, "data.count is True"),
        ({"way": "left"}, "data.way is 'left'; it must be one of: up, down"),
        ({"flag": 1}, "data.flag is 1; it must be True or False"),
        ({"count": 7}, "data.count is 7; it must not be"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_setting_out_of_its_range_is_named(change, said):
    with pytest.raises(ValueError) as mistake:
        Toy(**{"seed": 0, **change})
    assert str(mistake.value).startswith(said) and len(str(mistake.value).splitlines()) == 1


def test_all_mistakes_of_a_settings_class_come_at_once():
    with pytest.raises(ValueError) as mistakes:
        Toy(seed=-1, share=2.0, count=7, way="")
    assert len(str(mistakes.value).splitlines()) == 4


def test_each_purpose_has_random_numbers_of_its_own():
    draws = {
        tuple(generator(*names).integers(1000, size=4).tolist())
        for names in (("a", 0), ("a", 1), ("b", 0), ("a", 0, "x"), ("a", 0, "x", 1))
    }
    assert len(draws) == 5
    assert generator("a", 0).random() == generator("a", 0).random()


# --- a person's own


@pytest.fixture
def lone():
    return user_files.call(LONE, "get_config", instead={})


def test_a_data_set_in_a_lone_file_loads_and_so_does_a_tfds_builder_there(lone, tmp_path):
    by_hand, by_tfds = (source.load(seed=3, cache_dir=tmp_path) for source in lone)
    for name in ("train", "validation"):

        def rows(dataset, name=name):
            split = dataset.splits[name]
            return sorted(
                (*row, label, foil, query)
                for row, label, foil, query in zip(
                    split.tokens.tolist(),
                    split.label.tolist(),
                    split.foil.tolist(),
                    split.query_position.tolist(),
                )
            )

        assert rows(by_hand) == rows(by_tfds) and len(rows(by_hand)) == 8
    assert isinstance(by_tfds, Dataset) and by_tfds.splits["train"].cues.shape == (8, 0)


def test_the_file_may_be_loaded_again(lone, tmp_path):
    """TFDS alone refuses a second class of the same name."""
    again = user_files.call(LONE, "get_config", instead={})
    assert (
        again[1].load(seed=3, cache_dir=tmp_path).content_hash
        == lone[1].load(seed=3, cache_dir=tmp_path).content_hash
    )


def test_without_a_version_other_code_of_the_file_is_another_data_set(lone, tmp_path):
    changed = tmp_path / "lone_dataset.py"
    settings = lone[0].settings(seed=0)
    changed.write_text('"""Another docstring."""\n\n\n' + LONE.read_text() + "\n# a comment\n")
    same = user_files.call(changed, "get_config", instead={})
    assert same[0].content_hash(same[0].settings(seed=0)) == lone[0].content_hash(settings)
    changed.write_text(LONE.read_text() + "\nANOTHER = 1\n")
    other = user_files.call(changed, "get_config", instead={})
    assert other[0].content_hash(other[0].settings(seed=0)) != lone[0].content_hash(settings)
    assert lone[0].content_hash(settings) == user_files.call(LONE, "get_config", instead={})[
        0
    ].content_hash(settings)


def test_a_lone_file_that_is_imported_otherwise_works_too(tmp_path):
    spec = importlib.util.spec_from_file_location("lone_by_hand", LONE)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        assert module.get_config()[1].load(seed=0, cache_dir=tmp_path)
    finally:
        del sys.modules[spec.name]
        user_files._forget_builders(["lone_by_hand"])


@pytest.mark.parametrize(
    "rows, said",
    [
        ([{"tokens": [1], "label": 0}], "no 'query_position'"),
        ([{"query_position": 0, "label": 0}], "no 'tokens'"),
        (
            [{"tokens": [1], "query_position": 0, "label": 0, "weight": 1}],
            "'weight' is no array of a split",
        ),
    ],
)
def test_a_builder_s_features_must_be_those_of_a_split(rows, said):
    with pytest.raises(ValueError, match=f"Own: .*{said}"):
        _stacked("Own", rows)


def test_patches_need_no_tokens():
    split = _stacked("Own", [{"features": np.zeros((4, 2)), "query_position": 0, "label": 1}] * 3)
    assert (
        (split.tokens == 1).all()
        and split.tokens.shape == (3, 4)
        and split.features.dtype == np.float32
        and (split.foil == -1).all()
    )


def test_a_source_whose_parts_do_not_fit_is_refused(lone):
    with pytest.raises(ValueError, match="no setting, view or split 'test'"):
        dataclasses.replace(lone[0], primary="test")
    with pytest.raises(ValueError, match="no setting, view or split 'dev'"):
        dataclasses.replace(lone[0], views=(*lone[0].views, View("dev", "dev", "dev")))
    with pytest.raises(ValueError, match="no setting, view or split 'num_train'"):
        dataclasses.replace(lone[0], settings=Toy)


def test_a_draw_with_other_splits_than_it_says_is_refused(lone, tmp_path):
    wrong = dataclasses.replace(
        lone[0], draw=lambda settings: {"train": lone[0].draw(settings)["train"]}
    )
    with pytest.raises(ValueError, match="the draw gives the splits train, not train, validation"):
        wrong.load(seed=0, cache_dir=tmp_path)
