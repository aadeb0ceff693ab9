"""The real command, small, from the outside: the files it leaves, the page in a real browser,
inspect and report.
"""

import json

import numpy as np
import pytest

from tests.helpers import chromium

pytestmark = pytest.mark.system


def test_the_run_directory_has_what_the_design_says(small_run):
    for name in ("config.json", "environment.json", "metrics.jsonl", "results.json", "report.html"):
        assert (small_run / name).stat().st_size > 0, name
    assert list((small_run / "tensorboard").rglob("events.out.tfevents.*"))
    results = json.loads((small_run / "results.json").read_text())
    assert list(results) == [
        "experiment",
        "baseline",
        "margin",
        "alpha",
        "seeds",
        "arms",
        "comparisons",
        "controls",
    ]
    assert results["seeds"] == [100, 101]
    cell = results["arms"]["attention_0.3"]["recombination"]
    assert cell["mean"] == pytest.approx(np.mean(cell["per_seed"])) and len(cell["per_seed"]) == 2
    [row] = [
        c
        for c in results["comparisons"]
        if c["arm"] == "attention_0.3" and c["split"] == "recombination"
    ]
    base = results["arms"]["none"]["recombination"]["per_seed"]
    assert row["per_seed"] == pytest.approx(
        [a - b for a, b in zip(cell["per_seed"], base, strict=True)]
    )
    # Verdicts stand on the primary view only.
    assert {c["split"] for c in results["comparisons"] if c["verdict"]} == {"recombination"}
    text = json.dumps(results)
    assert str(small_run) not in text and "seconds" not in text


def test_metrics_have_one_row_per_arm_seed_step_and_split(small_run):
    rows = [
        row
        for row in map(json.loads, (small_run / "metrics.jsonl").read_text().splitlines())
        if "machine" not in row
    ]
    keys = [(r["arm"], r["seed"], r["step"], r["split"], "train_mode_loss" in r) for r in rows]
    assert len(keys) == len(set(keys))
    assert {r["step"] for r in rows} == {20, 40} and {r["seed"] for r in rows} == {100, 101}


def test_the_report_is_made_again_from_disk(small_run, jaxreg_command):
    before = (small_run / "results.json").read_bytes()
    (small_run / "results.json").unlink()
    done = jaxreg_command("report", str(small_run))
    assert done.returncode == 0, done.stderr
    again = json.loads((small_run / "results.json").read_text())
    assert (
        again["arms"] == json.loads(before)["arms"]
        and again["comparisons"] == json.loads(before)["comparisons"]
    )
    (small_run / "results.json").write_bytes(before)


def test_inspect_shows_both_matrices_for_any_sentence(small_run, jaxreg_command, tmp_path):
    picture = tmp_path / "matrices.png"
    done = jaxreg_command(
        "inspect",
        str(small_run),
        "--arm=attention_0.3",
        "--seed=100",
        "--step=3",
        "--text=The cat sat on the mat",
        "--layer=0",
        "--head=1",
        f"--output={picture}",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("layer 0, head 1"))
    rows = [line.split() for line in lines[start + 2 : start + 8]]
    assert [row[0] for row in rows] == ["The", "cat", "sat", "on", "the", "mat"]
    for row in rows:
        before, after = row[1:7], row[8:14]
        assert sum(map(float, before)) == pytest.approx(1, abs=0.03)
        for old, new in zip(before, after, strict=True):
            assert new == "×" or float(new) == pytest.approx(float(old) / 0.7, abs=0.02)
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_inspect_refuses_what_never_was(small_run, jaxreg_command):
    done = jaxreg_command(
        "inspect", str(small_run), "--arm=attention_0.3", "--seed=100", "--step=40"
    )
    assert done.returncode == 2 and "--step=40" in done.stderr and "0 to 39" in done.stderr


@pytest.mark.skipif(bool(chromium.why_missing()), reason=chromium.why_missing() or "")
def test_the_page_of_a_real_run_works_in_a_browser(small_run):
    with chromium.Browser(width=1200, height=900) as browser:
        browser.open(small_run / "report.html")
        assert "a dog sat" in browser.text("h1")
        assert browser.count("svg") > 10
        assert not browser.errors()


def test_the_report_has_the_change_of_errors_and_the_results_do_not(small_run):
    results = json.loads((small_run / "results.json").read_text())
    told = json.loads((small_run / "report.json").read_text())["errors"]
    assert set(told) == set(results["arms"]) - {"none"}
    errors = {
        arm: 1 - np.mean(row["recombination"]["per_seed"]) for arm, row in results["arms"].items()
    }
    for arm, text in told.items():
        assert text.startswith(f"{round(100 * (errors[arm] / errors['none'] - 1)):+d}% ["), arm
    assert "errors" not in results
