"""Every committed verdict, judged anew from the stored values per seed: nothing is trained.

    python experiments/judged/restate.py

For a change of the rules. Of `experiments/results/`: results.json, report.html and picture.png of
the comparisons; ledger.json, ledger.md and ledger.html. Their effects, intervals and p values stay,
and it stops where one would not. docs/judged.md is written by `experiments/judged/tables.py`.
docs/rule-change.md has the verdicts before and after; `--before=COMMIT` says which commit has those
before (the last one of the earlier rule is the default).
"""

import argparse
import dataclasses
import json
import re
import runpy
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scipy import stats

from jaxreg.store.atomic import write_json, write_text
from jaxreg.study.analysis import judge, summary_text, verdict
from jaxreg.study.analysis.metric import METRICS
from jaxreg.study.claims import again, markdown
from jaxreg.study.claims import design as claim_design
from jaxreg.study.claims import page as ledger_page
from jaxreg.study.claims.claim import Claim
from jaxreg.study.design.experiment import load_experiment
from jaxreg.study.report import page, picture

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
COMPARISONS = ("cat_sat", "cat_sat_literal", "cat_sat_underfitted", "cat_sat_usual_positions")
EARLIER = "e8a32fb0139e47899924846e4ee1cd55fb14aa9a"
LEDGER_COMMAND = "jaxreg claims --workdir=runs/ledger"
STAY = ("difference", "ci95", "p", "p_holm", "per_seed")

HEAD = """\
# The rule of verdicts changed: what changed with it

The rule by which `jaxreg judge` gives verdicts has changed. This page lists the results whose
verdict changed with it. `python experiments/judged/restate.py` writes the page. It judges every
committed result again, from its values per seed. Nothing was trained, and no effect, interval or p
value changed. [Why the rule changed](judge.md#why-this-rule) is on another page, and so are [both
rules, and a third, simulated](judge-simulations.md). The [glossary](glossary.md) explains the
project's words.

For a claim of superiority ("better"):

- **Before**, "supported" asked for a significant difference and an estimate of at least the margin
  (the smallest effect that matters). "Refuted: opposite" asked for a significant difference against
  the claim, of any size.
- **Now** both ask for a significant difference and a margin that is not excluded. "By the margin"
  means that the difference is significantly larger than the margin.

For the claims "no worse" and "the same", "opposite" now asks for a significant test against the
margin. Before, an estimate beyond the margin was enough.

**A/A pairs** compare the baseline with itself at other seeds. The ledger (the list of all claims)
did not hold their values per seed. Of 53 pairs, two have an interval that leaves out 0. Neither is
significant after Holm's correction over the pairs. So by either rule none is supported or opposite.
From now on their values are kept.

**bfloat16.** The runs in bfloat16 (results/bfloat16.json) have no values per seed either. By their
t intervals, `mlp_0.5` is supported there as in float32. All other verdicts are unchanged.

**Real A/A runs** (results/simulations/real_aa.json) were trained anew, on another machine, and have
the same accuracies. No verdict of the 20 pairs changed. Of 400 pairs drawn anew from the runs, 17
now come out, 9 before.
"""


def embedded(html: str) -> dict[str, Any]:
    """The numbers of a committed page."""
    found = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', html, re.S)
    assert found is not None, "every page embeds its numbers"
    return json.loads(found[1])


def compared(name: str) -> dict[str, Any]:
    """Judges one comparison anew, writes its three files, and returns its results.json."""
    folder = RESULTS / name
    before = json.loads((folder / "results.json").read_text())
    experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
    outcome = judge.judge_again(experiment, before)
    for old, new in zip(before["comparisons"], outcome.results["comparisons"], strict=True):
        assert all(old[key] == new[key] for key in STAY), f"{name}: a number changed"
    payload = embedded((folder / "report.html").read_text())
    told = " ".join([*payload["headline"], *payload.get("details", [])])
    chance = re.search(r"chance ([\d.]+)%", told)
    cut = re.search(r"cut from (\w+) and (\w+) both", told)
    assert chance is not None, "the headline says it"
    metric = METRICS[experiment.metric]
    payload |= {
        "metric": dataclasses.asdict(metric),
        "headline": [
            *summary_text.warnings(experiment, outcome.results),
            *summary_text.headline(
                experiment,
                outcome.verdicts,
                outcome.results["arms"],
                float(chance[1]) / 100,
                metric,
            ),
        ],
        "details": summary_text.details(
            experiment,
            outcome.verdicts,
            outcome.results["arms"],
            cut.groups() if cut else (),
            metric,
        ),
        "table": outcome.results["arms"],
        "comparisons": outcome.results["comparisons"],
        "controls": [{"name": key} | own for key, own in outcome.results["controls"].items()],
    }
    for each in payload["predictions"]:
        own = outcome.verdicts[each["arm"]]
        each["verdict"] = verdict.words(own.label, own.by_margin)
    write_json(folder / "results.json", outcome.results)
    write_text(folder / "report.html", page.render(payload))
    picture.draw_picture(payload, folder / "picture.png")
    return outcome.results


def in_bfloat16(float32: Mapping[str, Any]) -> None:
    """Restates results/bfloat16.json, whose runs in bfloat16 have no values per seed.

    "Supported" and "negligible" stand by either rule: the estimate of the first is the margin or
    more, and nothing was opposite. What was inconclusive is supported where its t interval says so:
    significant after Bonferroni over the arms, for the better, and the margin not excluded.
    """
    path = RESULTS / "bfloat16.json"
    found = json.loads(path.read_text())
    today = {row["arm"]: row["verdict"] for row in float32["comparisons"] if row["verdict"]}
    for name, run in found["runs"].items():
        for row in run["comparisons"]:
            if name == "float32":
                row["verdict"] = today[row["arm"]]
            elif row["verdict"] == verdict.INCONCLUSIVE and _clear(row, found, float32):
                row["verdict"] = verdict.SUPPORTED
            row["same_verdict"] = row["verdict"] == today[row["arm"]]
    write_json(path, found)
    script = runpy.run_path(str(ROOT / "experiments" / "robustness" / "bfloat16.py"))
    write_text(RESULTS / "bfloat16.md", script["markdown"](found))


def _clear(row: Mapping[str, Any], found: Mapping[str, Any], float32: Mapping[str, Any]) -> bool:
    """Whether a row's t interval supports it."""
    low, high = row["ci95"]
    degrees, arms = len(found["seeds"]) - 1, len(float32["arms"]) - 1
    error = (high - low) / 2 / float(stats.t.ppf(0.975, degrees))
    p = 2 * arms * float(stats.t.sf(row["difference"] / error, degrees))
    excluded = float(stats.t.sf((float32["margin"] - row["difference"]) / error, degrees))
    return row["difference"] > 0 and p <= float32["alpha"] < excluded


def claims() -> dict[str, Any]:
    """Judges the ledger anew, writes its three files, and returns its ledger.json."""
    folder = RESULTS / "ledger"
    before = json.loads((folder / "ledger.json").read_text())
    designs = claim_design.load_folder(ROOT / "experiments" / "claims", quick=False, num_seeds=None)
    found = again.judge_again(before)
    found["claims"] = [_worded(claim, designs[claim["id"]].claim) for claim in found["claims"]]
    for old, new in zip(_questions(before), _questions(found), strict=True):
        assert all(old[1][key] == new[1][key] for key in STAY), f"{old[0]}: a number changed"
    write_json(folder / "ledger.json", found)
    write_text(folder / "ledger.md", markdown.markdown(found))
    write_text(folder / "ledger.html", ledger_page.render(found, LEDGER_COMMAND))
    return found


def _worded(row: Mapping[str, Any], claim: Claim) -> dict[str, Any]:
    """A claim's row with the words that its file has today."""
    kept = {key: value for key, value in row.items() if key != "reading"}
    return ledger_page.words(claim) | kept


def _questions(ledger: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(claim and question, entry), in order."""
    for claim in ledger["claims"]:
        for question in claim.get("questions", ()):
            yield f"{claim['id']}: {question['name']}", question


def _arms(results: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(arm, entry with its unit) on the primary view."""
    for row in results["comparisons"]:
        if row["verdict"]:
            yield row["arm"], {**row, "scale": 100, "unit": "points"}


def _shown(commit: str, path: Path) -> bytes:
    """A file as a commit has it."""
    where = f"{commit}:{path.relative_to(ROOT).as_posix()}"
    return subprocess.run(["git", "show", where], cwd=ROOT, capture_output=True, check=True).stdout


def table(before: Mapping[str, Any], now: Mapping[str, Any], margin: Any = None) -> list[str]:
    """Markdown rows of the verdicts that changed, and a line on those that did not."""
    read = _arms if "comparisons" in now else _questions
    rows, same = [], 0
    for (name, old), (_, new) in zip(read(before), read(now), strict=True):
        was, is_now = (verdict.words(x["verdict"], x.get("by_margin")) for x in (old, new))
        if was == is_now:
            same += 1
            continue
        own = new["scale"] * (new["margin"] if margin is None else margin)
        rows.append(
            f"| {name} | {markdown.effect(new)} | {own:g} | {was} | {is_now} | {new_reason(new)} |"
        )
    head = ["| what | effect [95%] | margin | before | now | why |", "|---|---|---|---|---|---|"]
    return [*(head if rows else []), *rows, "", f"Unchanged: {same}.", ""]


def published(before: str, now: str) -> list[str]:
    """Markdown rows of the verdicts in docs/judged.md that changed."""
    rows = []
    for old, new in zip(_judged_rows(before), _judged_rows(now), strict=True):
        if old[-1] != new[-1]:
            rows.append(f"| {new[0]} | {new[1]} | {new[2]} | {old[-1]} | {new[-1]} |")
    head = ["| table | arm | difference [95%] | before | now |", "|---|---|---|---|---|"]
    return [*head, *rows, ""]


def _judged_rows(text: str) -> list[tuple[str, str, str, str]]:
    """(chapter, arm, difference, verdict) of every row with a verdict."""
    chapter, rows = "", []
    for line in text.splitlines():
        chapter = line.removeprefix("## ") if line.startswith("## ") else chapter
        cells = line.strip("| ").split(" | ")
        if "**" in cells[-1] and line.startswith("| "):
            rows.append((chapter, cells[0], cells[3], cells[-1].replace("**", "")))
    return rows


def new_reason(entry: Mapping[str, Any]) -> str:
    """The reason of the verdict that stands now, in words."""
    if entry["by_margin"]:
        return f"the test against the margin is significant, too (p {entry['p_margin_holm']:.2g})"
    if entry["verdict"] == verdict.NEGLIGIBLE:
        return "significant, and an effect of the margin is excluded, either way"
    if entry["verdict"] == verdict.SUPPORTED:
        return "significant, and an effect of the margin is not excluded"
    return str(entry.get("reason", ""))


def main() -> None:
    """Writes all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default=EARLIER)
    before = parser.parse_args().before
    ledger = claims()
    old = json.loads(_shown(before, RESULTS / "ledger" / "ledger.json"))
    lines = [HEAD, "## The ledger", "", *table(old, ledger)]
    for name in COMPARISONS:
        now = compared(name)
        if name == "cat_sat":
            in_bfloat16(now)
        old = json.loads(_shown(before, RESULTS / name / "results.json"))
        lines += [f"## `experiments/{name}.py`", "", *table(old, now, now["margin"])]
    old_page = _shown(before, ROOT / "docs" / "judged.md").decode()
    new_page = (ROOT / "docs" / "judged.md").read_text()
    lines += ["## Published tables, and our own ([docs/judged.md](judged.md))", ""]
    lines += published(old_page, new_page)
    write_text(ROOT / "docs" / "rule-change.md", "\n".join(lines))


if __name__ == "__main__":
    main()
