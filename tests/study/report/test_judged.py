"""What is shown of the judge's outcome: the same numbers everywhere, in any unit, and light."""

import dataclasses
import html.parser
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from jaxreg.cli import judged_table
from jaxreg.study.analysis import verdict
from jaxreg.study.analysis.runs import Question, Runs
from jaxreg.study.report import judged_content, judged_page, judged_picture, judged_text
from jaxreg.study.report.judged_numbers import decimals, interval, number, p_value, signed
from tests.helpers.judged import make_outcome, make_question, make_runs

ROOT = Path(__file__).parents[3]
NUMBER = r"[+−-]?\d+(?:\.\d+)?"


def make_content(*, num_seeds: int = 8, warnings=(), scale: float = 1.0, **asked):
    runs, question = make_runs(num_seeds=num_seeds), make_question(**asked)
    if scale != 1.0:
        margin = None if question.margin is None else question.margin * scale
        question = dataclasses.replace(question, margin=margin)
        scaled = {
            arm: {view: values * scale for view, values in row.items()}
            for arm, row in runs.scores.items()
        }
        runs = dataclasses.replace(runs, scores=scaled)
    outcome = make_outcome(runs, question)
    shown = judged_content.content(outcome, question, runs.understood, warnings=warnings)
    return outcome.results, shown


def value(text: str) -> float:
    return float(text.replace("−", "-"))


def rounded(text: str, exact: float) -> bool:
    """Whether a printed number is the exact one, rounded to the digits that are printed."""
    places = len(text.partition(".")[2])
    return abs(value(text) - exact) <= 0.5000001 * 10**-places


def primary(results: dict) -> dict:
    return {row["arm"]: row for row in results["comparisons"] if row["split"] == "test"}


def printed(told: str, row: dict) -> None:
    """Asserts that difference, interval and p in these words are those of the results."""
    told = told.replace("95% interval ", "")
    found = re.search(rf"({NUMBER})[^\d+−-]+({NUMBER})(?:, | to )({NUMBER})", told)
    assert found, told
    assert rounded(found[1], row["difference"])
    assert all(rounded(text, end) for text, end in zip(found.groups()[1:], row["ci95"]))
    if row["p_holm"] < 0.001:
        assert re.search(r"< ?\.001", told)
    else:
        [p] = re.findall(r"(?<![\d.])(?:0?\.\d+|1)(?![\d.])", told[found.end() :])[:1]
        assert rounded(p, row["p_holm"]), (p, row["p_holm"])


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
@pytest.mark.parametrize("num_seeds", [8, 14])
def test_the_paragraph_has_the_numbers_of_the_results(scale, num_seeds):
    results, shown = make_content(scale=scale, num_seeds=num_seeds)
    told = judged_text.paragraph(shown)
    rows = primary(results)
    assert len(rows) == 4
    for arm, row in rows.items():
        [sentence] = re.findall(rf"The difference of {re.escape(arm)} is (.*?)\.(?: |$)", told)
        printed(sentence, row)
        label, _, kind = row["verdict"].partition(": ")
        assert f"verdict: {label}" in sentence and (not kind or f"({kind})" in sentence)
        assert (", by the margin" in sentence) == bool(row["by_margin"])
        if row["verdict"] == "inconclusive":
            assert f"80% power needs {row['seeds_needed']} seeds" in sentence
    [mean] = re.findall(rf"The mean of adamw is ({NUMBER})\.", told)
    assert rounded(mean, results["arms"]["adamw"]["test"]["mean"])
    assert f"with {num_seeds} runs of each" in told and "doi:10.1093/biomet/6.1.1" in told
    assert told.count("\n") == 0


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
def test_the_markdown_table_has_the_numbers_of_the_results(scale):
    results, shown = make_content(scale=scale)
    lines = judged_text.markdown(shown).splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]
    assert {len(row) for row in cells} == {6}
    table = {row[0].strip().replace("\\", ""): [cell.strip() for cell in row] for row in cells[2:]}
    assert list(table) == list(results["arms"])
    for arm, row in primary(results).items():
        _, runs, mean, difference, p, found = table[arm]
        printed(f"{difference} {p}", row)
        assert rounded(mean, results["arms"][arm]["test"]["mean"]) and runs == "8"
        assert found.startswith(f"**{verdict.words(row['verdict'], row['by_margin'])}**")


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
def test_the_terminal_s_table_has_the_numbers_and_fits(scale):
    results, shown = make_content(scale=scale, warnings=["judged before"])
    console = Console(width=80, record=True, file=open("/dev/null", "w"))
    console.print(judged_table.table(shown))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert text.startswith("! judged before")
    rows = re.split(r"\n(?=\S)", text)
    for arm, row in primary(results).items():
        [told] = [part for part in rows if part.startswith(f"{arm.split()[0]} ")]
        first, second = told.splitlines()[:2]
        cells = re.search(rf" 8 (?: +({NUMBER}))? +({NUMBER}) +(<?[.\d]+) +(.*)", first)
        if scale > 1e-4:  # there the numbers are so long that the means give way
            assert rounded(cells[1], results["arms"][arm]["test"]["mean"])
        low, high = second.index("["), second.index("]") + 1
        printed(f"{cells[2]} {second[low:high]} {cells[3]}", row)
        words = verdict.words(row["verdict"], row["by_margin"]).split()
        assert f"{cells[4]} {second[high:]}".split()[:2] in (words[:2], [*words, "needs"], words)


def test_accuracies_also_have_the_change_of_their_errors():
    runs = make_runs(views=("test_acc", "test"))
    shares = {
        arm: {view: each / 4 for view, each in row.items()} for arm, row in runs.scores.items()
    }
    runs = dataclasses.replace(runs, scores=shares)
    better = {"higher_is_better": True, "margin": 0.001}
    question = make_question(primary="test_acc", **better)
    shown = judged_content.content(make_outcome(runs, question), question)
    base = shares["adamw"]["test_acc"]
    for row in judged_content.primary_rows(shown):
        own = shares[row["arm"]]["test_acc"]
        percent = 100 * ((1 - own).mean() / (1 - base).mean() - 1)
        assert row["errors"].startswith(f"{round(percent):+d}% ["), row
        assert f"errors {row['errors']}" in judged_text.markdown(shown)
    console = Console(width=80, record=True, file=open("/dev/null", "w"))
    console.print(judged_table.table(shown))
    assert console.export_text().count("errors ") == len(shares) - 1
    for primary_view, scores in (
        ("test", shares),
        ("test_acc", make_runs(views=("test_acc", "test")).scores),
    ):
        question = make_question(primary=primary_view, **better)
        outcome = make_outcome(dataclasses.replace(runs, scores=scores), question)
        rows = judged_content.primary_rows(judged_content.content(outcome, question))
        assert not any("errors" in row for row in rows), "not known to be accuracies"


def payload_of(text: str) -> dict:
    [found] = re.findall(r'id="payload">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
def test_the_page_has_the_numbers_of_the_results(scale):
    results, shown = make_content(scale=scale)
    payload = payload_of(judged_page.render(shown))
    assert len(payload["comparisons"]) == len(results["comparisons"]) == 8
    for seen, row in zip(payload["comparisons"], results["comparisons"], strict=True):
        for key in ("difference", "p", "p_holm"):
            assert seen[key] == (None if row[key] is None else pytest.approx(row[key], rel=1e-11))
        for key in ("ci95", "always_valid95"):
            assert seen[key] == pytest.approx(row[key], rel=1e-10)
        decides = row["split"] == "test"
        dots = [value for _, value in seen["dots"]]
        assert dots == pytest.approx(row["per_seed"] if decides else [], rel=1e-9)
    for arm, row in results["arms"].items():
        dots = [value for _, value in payload["table"][arm]["test"]["dots"]]
        assert dots == pytest.approx(row["test"]["per_seed"], rel=1e-11)


def test_same_content_gives_same_bytes():
    first, second = make_content()[1], make_content()[1]
    assert judged_page.render(first) == judged_page.render(second)
    assert judged_picture.png(first) == judged_picture.png(second)
    assert judged_picture.svg(first) == judged_picture.svg(second)
    assert judged_text.markdown(first) == judged_text.markdown(second)


def test_the_svg_has_no_date_and_no_words_that_could_be_markup():
    shown = make_content()[1]
    for row in shown["comparisons"]:
        row["arm"] = row["arm"].replace("muon", "<script>window.owned=1</script> $x^")
    text = judged_picture.svg(shown).decode()
    assert "date" not in text and "<script" not in text
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg") and not root.findall(".//{*}script")


@pytest.mark.parametrize("claim", ["superiority", "non-inferiority", "equivalence"])
def test_every_arm_stands_in_the_headline_once(claim):
    shown = make_content(claim=claim)[1]
    told = " ".join(shown["headline"][1:])
    for arm in ("muon", "lion", "sgd", "noisy | arm"):
        assert told.count(f"{arm} (") == 1, told


def test_without_a_margin_there_are_no_verdicts_and_it_says_why():
    results, shown = make_content(margin=None)
    assert "No margin was given" in shown["warnings"][0]
    for text in (judged_text.paragraph(shown), " ".join(shown["headline"])):
        assert not re.search("supported|refuted|inconclusive", text)
    [told] = re.findall(r"of muon is (.*?)\. ", judged_text.paragraph(shown))
    printed(told, primary(results)["muon"])
    assert judged_picture.png(shown).startswith(b"\x89PNG")


def test_warnings_come_first():
    shown = make_content(warnings=["Judged before with 5 seeds."])[1]
    assert shown["warnings"][0] == "Judged before with 5 seeds."
    assert judged_text.markdown(shown).startswith("- Judged before")


def test_an_arm_without_a_number_is_named_and_stops_nothing():
    runs = make_runs()
    runs.scores["muon"]["test"][1:] = math.nan
    question = make_question(diverged="drop")
    shown = judged_content.content(make_outcome(runs, question), question)
    told = judged_text.paragraph(shown) + judged_text.markdown(shown)
    assert "nan" not in told and "of muon is" in told
    assert "not testable" in told and "Not testable: muon" in " ".join(shown["headline"])
    assert any("muon 7 of 8" in line for line in shown["warnings"]), shown["warnings"]
    assert payload_of(judged_page.render(shown))["comparisons"][0]["verdict"] == "not testable"
    assert judged_picture.svg(shown).startswith(b"<?xml")
    Console(width=80, file=open("/dev/null", "w")).print(judged_table.table(shown))


def test_the_paragraph_counts_the_runs_that_were_judged():
    runs = make_runs()
    scores = {arm: {view: row[view].copy() for view in row} for arm, row in runs.scores.items()}
    scores["muon"]["test"][2:4] = math.nan
    question = make_question(diverged="drop", paired=False)
    outcome = make_outcome(Runs(runs.seeds, scores), question)
    shown = judged_content.content(outcome, question, left_out=["not finished, and left out: x"])
    told = judged_text.paragraph(shown)
    counts = "adamw 8, muon 6, lion 8, sgd 8, noisy | arm 8"
    assert f"with 6 to 8 runs of each ({counts}). Not finished, and left out: x. Runs" in told
    assert "Runs without a score on test were left out: muon 2 of 8. Differences" in told


def test_a_gain_that_is_excluded_is_not_called_no_difference():
    """Of a loss as large as the margin it says that it is not excluded, everywhere."""
    stream = np.random.default_rng(1)
    runs = Runs(
        dict.fromkeys(("base", "same", "worse"), tuple(range(12))),
        {
            arm: {"acc": center + stream.normal(0, spread, 12)}
            for arm, center, spread in (("base", 80, 0.5), ("same", 80, 0.5), ("worse", 79.2, 1.1))
        },
    )
    question = Question("base", "acc", margin=1.0, paired=False)
    shown = judged_content.content(make_outcome(runs, question), question)
    rows = {row["arm"]: row for row in shown["comparisons"]}
    assert {arm: row["harm_excluded"] for arm, row in rows.items()} == {
        "same": True,
        "worse": False,
    }
    assert rows["worse"]["verdict"] == rows["same"]["verdict"] == verdict.NEGLIGIBLE
    assert rows["worse"]["ci95"][0] < -1 and rows["same"]["ci95"][0] > -1
    assert rows["same"]["reason"] == "a gain or a loss of the margin 1 is excluded"
    open_loss = "a gain of the margin 1 is excluded; a loss of the margin is not"
    assert rows["worse"]["reason"] == open_loss and open_loss in judged_page.render(shown)
    _, small, open_one = shown["headline"]
    assert small.startswith("Too small to matter (a gain or a loss of 1 is excluded): same")
    assert open_one.startswith("No gain of 1 (it is excluded; a loss of 1 is not): worse")
    told = judged_text.paragraph(shown)
    assert told.count("no gain of the margin; a loss of the margin is not excluded") == 1
    assert judged_text.markdown(shown).count("(a loss is not excluded)") == 1
    console = Console(width=80, record=True, file=open("/dev/null", "w"))
    console.print(judged_table.table(shown))
    assert console.export_text().count("(a loss is") == 1


def test_an_interval_beside_zero_that_the_corrected_test_does_not_share_is_said():
    stream = np.random.default_rng(0)
    names = ("base", "near", *(f"arm{i}" for i in range(9)))
    table = {arm: {"acc": stream.normal(0, 1, 10)} for arm in names}
    table["near"] = {"acc": table["base"]["acc"] + 0.3 + stream.normal(0, 0.9, 10)}
    runs = Runs(dict.fromkeys(names, tuple(range(10))), table)
    question = Question("base", "acc", margin=1.0, paired=True)
    shown = judged_content.content(make_outcome(runs, question), question)
    near = next(row for row in shown["comparisons"] if row["arm"] == "near")
    assert near["ci95"][0] > 0 and near["p"] < 0.05 < near["p_holm"]
    [sentence] = re.findall(
        r"The difference of near is .*?excludes 0", judged_text.paragraph(shown)
    )
    assert sentence.endswith("although the interval, which is not corrected, excludes 0")


def test_unpaired_runs_of_different_numbers():
    runs = make_runs()
    seeds = {arm: tuple(f"{arm}{i}" for i in range(8 + k)) for k, arm in enumerate(runs.arms)}
    more = np.random.default_rng(3).standard_normal(8)
    scores = {
        arm: {view: np.concatenate([row[view], row[view].mean() + 1e-3 * more[:k]]) for view in row}
        for k, (arm, row) in enumerate(runs.scores.items())
    }
    question = make_question(paired="auto")
    outcome = make_outcome(Runs(seeds, scores), question)
    shown = judged_content.content(outcome, question)
    told = judged_text.paragraph(shown)
    assert "Welch 1947" in told and "Student 1908" not in told
    assert "with 8 to 12 runs of each" in told
    assert "Phipson" in told, "12 and 8 runs have 125,970 splits: too many to count"
    for arm, row in primary(outcome.results).items():
        [sentence] = re.findall(rf"The difference of {re.escape(arm)} is (.*?)\.(?: |$)", told)
        printed(sentence, row)
        assert shown["table"][arm]["test"]["runs"] == len(seeds[arm])
    assert all(row["dots"] == [] for row in shown["comparisons"])
    assert [name for name, _ in shown["table"]["muon"]["test"]["dots"]] == list(seeds["muon"])


def test_an_a_a_arm_with_other_seeds_and_planned_looks():
    runs = make_runs(num_seeds=9)
    stream = np.random.default_rng(9)
    again = {
        view: values + 1e-3 * stream.standard_normal(9)
        for view, values in runs.scores["adamw"].items()
    }
    runs = Runs({**runs.seeds, "again": tuple(range(50, 59))}, {**runs.scores, "again": again})
    question = make_question(aa="again", looks=3, look=2)
    outcome = make_outcome(runs, question)
    shown = judged_content.content(outcome, question)
    told = judged_text.paragraph(shown)
    assert told.startswith("4 arms and an A/A arm were compared with adamw")
    assert "The difference of the A/A arm again is " in told and "all sign patterns" in told
    assert "over 4 arms and 3 planned looks" in told and "again (" not in shown["headline"][1]
    kept = dict(shown["method"])
    assert kept["look"] == "number 2 of 3 planned beforehand"
    assert any("look 2 of 3" in line for line in shown["warnings"])
    assert {arm["name"]: arm["kind"] for arm in shown["arms"]}["again"] == "aa"


def test_a_name_cannot_steer_the_terminal():
    steers = "\x1b]0;owned\x07\x1b[2J"
    runs = make_runs()
    names = {arm.replace("muon", steers): arm for arm in runs.arms}
    runs = Runs(
        {new: runs.seeds[old] for new, old in names.items()},
        {new: runs.scores[old] for new, old in names.items()},
    )
    question = make_question()
    shown = judged_content.content(
        make_outcome(runs, question), question, warnings=[f"seen before: {steers}"]
    )
    console = Console(width=120, record=True, file=open("/dev/null", "w"))
    console.print(judged_table.table(shown))
    text = console.export_text()
    assert text.replace("\n", "").isprintable() and text.count(r"\x1b]0;owned\x07") == 2


def test_many_arms_are_named_by_the_first_few():
    stream = np.random.default_rng(5)
    arms = ["base", *(f"arm {place}" for place in range(20))]
    runs = Runs(
        {arm: tuple(f"{arm}/{run}" for run in range(3)) for arm in arms},
        {arm: {"test": stream.standard_normal(3)} for arm in arms},
    )
    question = Question("base", "test", margin=0.5)
    shown = judged_content.content(make_outcome(runs, question), question)
    [warning] = shown["warnings"]
    assert warning.startswith("arm 0, arm 1, ") and ", and 12 more: " in warning
    undecided = shown["headline"][1]
    assert undecided.count("runs each") == 8 and undecided.endswith("; and 12 more.")
    assert all(f"of arm {place} is" in judged_text.paragraph(shown) for place in range(20))


def test_many_runs_are_drawn_as_a_sample_of_equal_ranks():
    runs, question = make_runs(), make_question()
    outcome = make_outcome(runs, question)
    many = np.random.default_rng(1).standard_normal(500)
    outcome.results["arms"]["muon"]["test"]["per_seed"] = many.tolist()
    seeds = {arm: list(range(8)) for arm in runs.arms} | {"muon": list(range(500))}
    outcome.results["seeds_by_arm"] = seeds
    shown = judged_content.content(outcome, question)
    exact, cell = sorted(many), shown["table"]["muon"]["test"]
    dots = sorted(value for _, value in cell["dots"])
    assert all(many[int(name)] == value for name, value in cell["dots"])
    assert len(dots) == judged_content.MOST_DOTS and len(set(dots)) == len(dots)
    assert (dots[0], dots[-1], cell["runs"]) == (exact[0], exact[-1], 500)
    for q in (0.25, 0.5, 0.75):
        assert dots[round(q * 199)] == pytest.approx(exact[round(q * 499)], abs=0.02)


@pytest.mark.parametrize(
    ("ci95", "digits"),
    [([-0.0150, -0.0092], 4), ([100.0, 900.0], 0), ([0.1, 0.3], 2), ([-3e-9, 3e-9], 10)],
)
def test_two_significant_digits_of_half_the_interval(ci95, digits):
    assert decimals(ci95) == digits
    half = (ci95[1] - ci95[0]) / 2
    assert 10 <= round(half * 10**digits) or digits == 0


def test_numbers_in_words():
    assert signed(-0.00001, 3) == "0.000" and signed(-0.5, 1) == "−0.5" and signed(2, 0) == "+2"
    assert number(math.nan, 2) == "–" and signed(None, 2) == "–" and number(-1.25, 1) == "−1.2"
    assert interval([math.nan, 1.0], 1) == "" and interval([-1.0, 2.0], 1) == "[−1.0, +2.0]"
    assert [p_value(p) for p in (0.0004, 0.0078125, 0.031, 1.0, None)] == [
        "< .001",
        ".0078",
        ".031",
        "1",
        "–",
    ]
    assert decimals(None, [1234.5]) == 0 and decimals([math.nan] * 2, [0.0]) == 1


@pytest.mark.parametrize("text", ["a|b", "<b>", "`x`", "a\nb", "[x](y)", "a_b*c"])
def test_a_name_cannot_become_markdown(text):
    shown = make_content()[1]
    told = json.loads(json.dumps(shown).replace(json.dumps("muon")[1:-1], json.dumps(text)[1:-1]))
    lines = judged_text.markdown(told).splitlines()
    assert len(lines) == len(judged_text.markdown(make_content()[1]).splitlines())
    [row] = [line for line in lines if "−0.0213" in line]
    cell = re.split(r"(?<!\\)\|", row)[1]
    assert not re.search(r"(?<!\\)[`*_\[\]|]|<|>", cell)


class Collector(html.parser.HTMLParser):
    """Counts the tags."""

    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize(
    "text", ["</script><script>alert(1)</script>", "<!--<script>", "<!--slot:css-->"]
)
def test_text_cannot_become_markup(text):
    shown = make_content(warnings=[text])[1]
    shown = {**shown, "title": text, "understood": [text], "command": text}
    page = judged_page.render(shown)
    collector = Collector()
    collector.feed(page)
    assert [tag for tag, _ in collector.tags].count("script") == 2
    assert not {"img", "iframe", "object", "embed"} & {tag for tag, _ in collector.tags}
    assert payload_of(page)["understood"] == [text]
    policies = [a["content"] for _, a in collector.tags if a.get("http-equiv")]
    assert "default-src 'none'" in policies[0]
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest", page)


def test_importing_it_loads_neither_jax_nor_matplotlib():
    names = ("judged_content", "judged_text", "judged_page", "judged_picture")
    code = (
        f"import sys; from jaxreg.study.report import {', '.join(names)};"
        " from jaxreg.cli import judged_table;"
        " print([m for m in ('jax', 'flax', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
