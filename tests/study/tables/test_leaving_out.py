"""--without leaves arms out of a table, and says so; what cannot be left out is a mistake."""

import json

import numpy as np
import pytest

import jaxreg
from jaxreg.cli.main import main
from jaxreg.errors import UserErrors
from jaxreg.study.tables import leaving_out

NOISE = np.random.default_rng(0).normal(0, 0.02, 8)


def table(**more: float) -> dict[str, list]:
    """Arms with hard seeds in common; droppath lacks seed 5."""
    found: dict[str, list] = {"arm": [], "seed": [], "acc": []}
    for place, (arm, gain) in enumerate(
        {"base": 0, "mixup": 0.02, "droppath": 0.01, **more}.items()
    ):
        for seed in range(8):
            if (arm, seed) == ("droppath", 5):
                continue
            found["arm"].append(arm)
            found["seed"].append(seed)
            found["acc"].append(0.8 + gain + NOISE[seed] + 0.001 * ((seed * (place + 2)) % 3))
    return found


def write(path, columns: dict[str, list]) -> str:
    lines = zip(*columns.values(), strict=True)
    path.write_text("\n".join(",".join(map(str, line)) for line in (columns, *lines)))
    return str(path)


def test_the_flag_that_the_unpaired_line_names_pairs_the_rest(tmp_path, capsys):
    words = ["judge", write(tmp_path / "runs.csv", table()), "--baseline=base", "--margin=.01"]
    assert main([*words, "--json"]) == 0
    why = json.loads(capsys.readouterr().out)["pairing"]["why"]
    assert "droppath lacks seed 5" in why
    flag = why.split()[-1]
    assert flag == "--without=droppath"
    assert main([*words, "--json", flag]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairing"]["paired"] and list(found["arms"]) == ["base", "mixup"]
    assert "left out of the comparison, as asked: droppath" in found["warnings"]
    assert main([*words, flag]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "! left out of the comparison, as asked: droppath" in out
    assert "Left out of the comparison, as asked: droppath." in out, "in the paragraph, too"


@pytest.mark.parametrize(
    "text, lines",
    [
        ("dropath", ["--without=dropath: there is no such arm; did you mean droppath?"]),
        ("base", ["--without=base: is the baseline, which all others are compared with"]),
        ("x,base", ["--without=x: there is no such arm", "--without=base: is the baseline"]),
        ("mixup,droppath", ["there is only one arm, 'base'"]),
        ("", ["--without: has no value"]),
    ],
)
def test_what_cannot_be_left_out_is_a_mistake(tmp_path, capsys, text, lines):
    words = ["judge", write(tmp_path / "runs.csv", table()), "--baseline=base", "--margin=.01"]
    assert main([*words, f"--without={text}"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(lines), said
    assert all(line in told for line, told in zip(lines, said, strict=True)), said


def test_the_function_leaves_out_by_names_too():
    for without in ("droppath", ["droppath"], ("droppath",)):
        found = jaxreg.judge(table(), baseline="base", margin=0.01, without=without)
        assert found.runs.arms == ("base", "mixup") and found.results["pairing"]["paired"]
    by_arm = {"base": [0.1, 0.2, 0.3], "b": [0.2, 0.3, 0.4], "c": [0.3, 0.1, 0.2]}
    assert jaxreg.judge(by_arm, baseline="base", without="c").runs.arms == ("base", "b")
    with pytest.raises(UserErrors, match=r"^without=base: is the baseline"):
        jaxreg.judge(table(), baseline="base", without="base")


def test_a_name_with_commas_is_one_name():
    arms = ("sgd, big", "sgd, small", "adamw", "a,b,c")
    assert leaving_out.named("sgd, big,adamw", arms) == ["sgd, big", "adamw"]
    assert leaving_out.named("a,b,c,sgd, small", arms) == ["a,b,c", "sgd, small"]
    assert leaving_out.named("a,adamw,adamw", arms) == ["a", "adamw"]
    assert leaving_out.named(None, arms) == []


def test_unfinished_runs_of_arms_that_are_left_out_are_not_warned_of():
    rows = table()
    rows["State"] = ["crashed" if arm == "droppath" else "finished" for arm in rows["arm"]]
    assert len(jaxreg.judge(rows, baseline="base").runs.warnings) == 1
    [line] = jaxreg.judge(rows, baseline="base", without="droppath").runs.warnings
    assert line == "left out of the comparison, as asked: droppath"


def test_a_result_forgets_the_controls_that_are_left_out():
    said = {"baseline": "a", "aa": "b", "known": ("c", "d"), "margin": 1.0}
    runs = jaxreg.judge(
        {name: [0.1, 0.2] for name in "abcd"} | {"b": [0.2, 0.5]}, baseline="a"
    ).runs
    left, told = leaving_out.without(runs, said, "b,c", None, mistakes := [])
    assert mistakes == [] and left.arms == ("a", "d")
    assert told == {"baseline": "a", "known": ("d",), "margin": 1.0}
