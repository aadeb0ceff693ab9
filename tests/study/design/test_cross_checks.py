"""Config values that do not fit together, through `validate`: what only the data or the table of
strengths can know.
"""

import functools

import pytest

from jaxreg.study.design import config as configs
from tests.helpers import tiny


@functools.cache
def base(dataset="catsat"):
    return configs.flat(
        configs.apply_overrides(
            configs.load_config(tiny.ROOT / "configs" / "base.py"), [f"data.dataset={dataset}"]
        )
    )


@pytest.mark.parametrize(
    "dataset, edges, end, known",
    [
        ("catsat", "query->nuon", "nuon", "query, noun, determiner"),
        ("catsat", "verb->noun", "verb", "query, noun, determiner"),
        ("recall", "query->noun", "noun", "query, "),
    ],
)
def test_ends_of_a_targeted_connection_must_be_in_the_data(dataset, edges, end, known):
    [line] = configs.validate(base(dataset) | {"model.attention_dropout_edges": edges})
    assert line.startswith(
        f"model.attention_dropout_edges: {dataset} has no {end!r}; it has {known}"
    )


@pytest.mark.parametrize(
    "edges", ["all", "query->noun", "query->determiner", "noun->query", "noun->determiner"]
)
def test_known_ends_are_allowed(edges):
    assert configs.validate(base() | {"model.attention_dropout_edges": edges}) == []


def test_both_ends_may_be_unknown_and_a_wrong_form_is_one_mistake():
    assert len(configs.validate(base() | {"model.attention_dropout_edges": "a->b"})) == 2
    [line] = configs.validate(base() | {"model.attention_dropout_edges": "noun"})
    assert "who looks -> at whom" in line


@pytest.mark.parametrize(
    "fields, changes, words",
    [
        (("model.width",), {}, "'model.width' is no strength that is off at 0"),
        (("optim.learning_rate",), {}, "optim.learning_rate is the optimizer's"),
        (
            ("optim.weight_decay",),
            {},
            (
                "optim.weight_decay is the optimizer's; a schedule acts on strengths of model, loss"
                " and augment"
            ),
        ),
        (
            ("model.logit_softcap",),
            {"model.logit_softcap": 3.0},
            "'model.logit_softcap' is no strength that is off at 0",
        ),
        (
            ("model.key_dropout_rate",),
            {"model.key_dropout_rate": None},
            "model.key_dropout_rate is None; it must have a value",
        ),
    ],
)
def test_only_strengths_that_are_there_can_be_scheduled(fields, changes, words):
    [line] = configs.validate(base() | {"schedule.fields": fields} | changes)
    assert line.startswith("schedule.fields: ") and words in line


def test_a_scheduled_strength_is_fine_and_a_wrong_one_is_named_once():
    fine = {
        "schedule.fields": ("model.attention_dropout_rate",),
        "model.attention_dropout_rate": 0.3,
    }
    assert configs.validate(base() | fine) == []
    [line] = configs.validate(base() | fine | {"model.attention_dropout_rate": 2.0})
    assert line.startswith("model.attention_dropout_rate is 2.0")


@pytest.mark.parametrize(
    "field, kind",
    [
        ("synonym_rate", "synonyms"),
        ("paraphrase_rate", "paraphrases"),
        ("back_translation_rate", "back translations"),
    ],
)
def test_sentences_are_rewritten_only_where_there_is_a_grammar(field, kind):
    change = {f"augment.{field}": 0.5}
    assert configs.validate(base() | change) == []
    [line] = configs.validate(base("recall") | change)
    assert line == f"augment.{field}: recall has no {kind}; it must be None"
    assert configs.validate(base("recall") | {f"augment.{field}": None}) == []


def test_other_augmentations_need_no_grammar():
    assert configs.validate(base("recall") | {"augment.mixup_strength": 0.5}) == []


@pytest.mark.parametrize(
    "dataset, changes, words",
    [
        ("digits", {"model.positions": "sinusoidal_2d", "model.width": 34}, "a multiple of 4, not"),
        ("recall", {"model.positions": "sinusoidal_2d"}, "rows of recall are no patches"),
        ("catsat", {"model.pooling": "mean"}, "catsat cuts what its query reads (view 'noun_cut')"),
        ("text", {"model.pooling": "max"}, "it must be one of: query, mean"),
        (
            "tokens",
            {"model.pooling": "mean", "model.causal": True},
            "tokens asks for the next token at every position, and a mean reads what follows",
        ),
    ],
)
def test_what_a_vision_transformer_has_needs_images_or_one_answer(dataset, changes, words):
    if "model.width" in changes:
        changes = changes | {"model.num_heads": 2}
    [line] = configs.validate(base(dataset) | changes)
    assert words in line


def test_a_vision_transformer_on_images_is_fine_and_so_is_a_mean_of_a_sentence():
    fine = {"model.positions": "sinusoidal_2d", "model.pooling": "mean"}
    assert configs.validate(base("digits") | fine) == []
    assert configs.validate(base("modn") | {"model.pooling": "mean"}) == []


def test_a_set_of_a_namespace_is_refused_before_tfds_fetches_its_code(monkeypatch):
    asked = []
    monkeypatch.setattr("tensorflow_datasets.builder", asked.append)
    paths = {"tokens": "sample, tfds:theirs:set", "images": "tfds:theirs:set"}
    for dataset, path in (paths | {"labelled_text": "tfds:theirs:set"}).items():
        [line] = configs.validate(base(dataset) | {"data.path": path})
        assert line.startswith("data.path: tfds:theirs:set: sets of a namespace")
    assert asked == []
