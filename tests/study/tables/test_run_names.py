"""Arm and seed from the names of runs and folders."""

from pathlib import PurePath

import pytest

from jaxreg.errors import UserErrors
from jaxreg.study.tables import run_names
from jaxreg.study.tables.run_names import Pattern


@pytest.mark.parametrize(
    "pattern, name, arm, seed",
    [
        ("{arm}_s{seed}", "adam_s_small_s12", "adam_s_small", "12"),
        ("{arm}-{seed}", "lr-0.1-3", "lr-0.1", "3"),
        ("{seed}_{arm}", "3_adam_w", "adam_w", "3"),
        ("run*-{arm}.{seed}", "run7-sgd.4", "sgd", "4"),
    ],
)
def test_names(pattern, name, arm, seed):
    assert Pattern(pattern).of_name(name) == {"arm": arm, "seed": seed}
    assert Pattern(pattern).of_name(f"{name}/x") is None


@pytest.mark.parametrize(
    "pattern, path",
    [
        ("{arm}_s{seed}", "runs/a_s1/metrics.jsonl"),
        ("{arm}_s{seed}", "runs/a_s1.csv"),
        ("{arm}_s{seed}", "a_s1/logs/deep/events"),
        ("{arm}/{seed}", "runs/a/1/metrics.jsonl"),
        ("{arm}/seed_{seed}", "runs/a/seed_1/tb/metrics.jsonl"),
        ("{arm}/{seed}", "runs/a/1.csv"),
    ],
)
def test_folders(pattern, path):
    fields = {"arm": "a", "seed": "1"}
    here = PurePath("/home/me_s3") / path
    assert Pattern(pattern).of_paths([here]) == [fields]
    other = PurePath("/home/me_s3") / path.replace("1", "22")
    assert Pattern(pattern).of_paths([here, other]) == [fields, {"arm": "a", "seed": "22"}]


def test_a_folder_above_all_files_is_not_their_run():
    paths = [PurePath(f"/home/me_s3/{name}/metrics.jsonl") for name in ("adam-1", "sgd-1")]
    assert None in Pattern("{arm}_x{seed}").of_paths(paths)
    assert run_names.guess_paths(paths).text == "{arm}-{seed}"


def test_a_usual_pattern_is_found_where_it_tells_all_runs_apart():
    found = run_names.guess(["adam_s1", "adam_s2", "sgd_s1"])
    assert found is not None and found.text == "{arm}_s{seed}"
    for names in (["adam_s1", "sgd"], ["adam_s1", "adam_s2"], ["a_s1", "b_s1", "b_s01"], []):
        assert run_names.guess(names) is None


def test_a_pattern_with_mistakes():
    for text, word in (
        ("{arm}_{sed}", "{sed} is no field of a name; did you mean seed?"),
        ("{arm}{arm}", "{arm} stands 2 times"),
        ("runs", "names neither"),
    ):
        with pytest.raises(UserErrors, match=word.replace("{", "\\{").replace("?", "\\?")):
            Pattern(text)
