"""Anybody's results judged, from files or tables to verdicts and what is shown of them; no JAX."""

import dataclasses
import functools
import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxreg.errors import UserErrors, collecting
from jaxreg.study.analysis.judge import Outcome, judge_runs
from jaxreg.study.analysis.runs import Question, Runs
from jaxreg.study.analysis.verdict import Verdict
from jaxreg.study.tables import checks, files, leaving_out, reading, roles, run_names
from jaxreg.study.tables.checks import CLAIMS, Wanted
from jaxreg.study.tables.reading import Reading
from jaxreg.study.tables.roles import Asked
from jaxreg.study.tables.unfinished import check_how

PICTURES = (".png", ".svg")
_SWITCHES = ("lower_is_better", "higher_is_better", "paired", "same_unit")
"""Flags of the command that may stand alone."""


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Verdicts on every arm, with the numbers behind them.

    Attributes:
      runs: what was judged, and how it was read.
      question: what was asked.
      outcome: of the judge.
      warnings: what must be read before any number.
      command: what to type to do it again; "" where it was no command.

    Example:
      >>> import jaxreg
      >>> scores = {"none": {"acc": [0.71, 0.70, 0.72, 0.71, 0.69, 0.70]},
      ...           "dropout": {"acc": [0.78, 0.77, 0.78, 0.79, 0.77, 0.76]}}
      >>> found = jaxreg.judge(scores, baseline="none", margin=0.02)
      >>> found.verdicts["dropout"].label
      'supported'
      >>> [row["arm"] for row in found.results["comparisons"]]
      ['dropout']
    """

    runs: Runs
    question: Question
    outcome: Outcome
    warnings: tuple[str, ...] = ()
    command: str = ""

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Arm -> verdict on the primary view; empty without a margin."""
        return self.outcome.verdicts

    @property
    def results(self) -> dict[str, Any]:
        """All numbers, as results.json of `jaxreg compare` holds them."""
        return self.outcome.results

    @functools.cached_property
    def shown(self) -> dict[str, Any]:
        """What the page, the picture and the texts show."""
        from jaxreg.study.report import judged_content

        return judged_content.content(
            self.outcome,
            self.question,
            self.runs.understood,
            warnings=(*self.runs.warnings, *self.warnings),
            left_out=[line.partition("; --")[0] for line in self.runs.warnings],  # without flags
            command=self.command,
        )

    def markdown(self) -> str:
        """A table for a pull request."""
        from jaxreg.study.report import judged_text

        return judged_text.markdown(self.shown)

    def paragraph(self) -> str:
        """The finding in plain words, with the methods' names and sources."""
        from jaxreg.study.report import judged_text

        return judged_text.paragraph(self.shown)

    def page(self) -> str:
        """The page, one self-contained HTML file."""
        from jaxreg.study.report import judged_page

        return judged_page.render(self.shown)

    def picture(self, ending: str) -> bytes:
        """The forest plot. ending: ".png" or ".svg"."""
        from jaxreg.study.report import judged_picture

        return {".png": judged_picture.png, ".svg": judged_picture.svg}[ending](self.shown)

    def save_page(self, path: str | os.PathLike) -> None:
        """Writes the page; replaces the file."""
        _write(path, self.page().encode("utf-8"))

    def save_picture(self, path: str | os.PathLike) -> None:
        """Writes the forest plot.

        Raises:
          ValueError: the path ends in neither .png nor .svg.
        """
        ending = Path(path).suffix.lower()
        if ending not in PICTURES:
            raise ValueError(f"path: {os.fspath(path)} ends in neither .png nor .svg")
        _write(path, self.picture(ending))


def _write(path: str | os.PathLike, content: bytes) -> None:
    from jaxreg.store.atomic import write_bytes

    write_bytes(path, content)


def judge(
    table: Any,
    *,
    baseline: str | None = None,
    metric: str | None = None,
    margin: float | int | None = None,
    lower_is_better: bool = False,
    higher_is_better: bool = False,
    arm: str | None = None,
    without: str | Sequence[str] | None = None,
    seed: str | None = None,
    view: str | None = None,
    primary: str | None = None,
    value: str | None = None,
    item: str | None = None,
    step: str | None = None,
    at: str | int = "last",
    run: str | None = None,
    repeats: str | None = None,
    claim: str = "superiority",
    paired: bool | Literal["auto"] | None = None,
    aa: str | None = None,
    diverged: str | float | int | None = None,
    looks: int = 1,
    look: int = 1,
    alpha: float | int | None = None,
    unfinished: Literal["keep", "drop", "diverged"] = "keep",
    same_unit: bool = False,
) -> Judgement:
    """Verdicts on the arms of a table of results, against its baseline.

    >>> import jaxreg
    >>> table = {
    ...     "arm": 6 * ["adamw"] + 6 * ["muon"],
    ...     "seed": 2 * [1, 2, 3, 4, 5, 6],
    ...     "val_loss": [3.29, 3.28, 3.30, 3.31, 3.27, 3.29, 3.21, 3.22, 3.20, 3.24, 3.20, 3.21],
    ... }
    >>> found = jaxreg.judge(table, baseline="adamw", lower_is_better=True, margin=0.01)
    >>> found.verdicts["muon"].label
    'supported'

    Args:
      table: a data frame, a mapping of columns, a list of mappings; arm -> scores or arm -> view ->
        scores; or the path of a file, a pattern such as "runs/*/metrics.jsonl", or a list of them.
      baseline: the arm that all others are compared with; a results.json says its own.
      metric: the column of scores, or the value of the column that names metrics.
      margin: the smallest effect that matters, in the unit of the scores; without it there are
        intervals and p values and no verdicts.
      lower_is_better: for a loss.
      higher_is_better: for a score whose name reads as a loss, and which is none.
      arm, seed, view, value, item, step: columns; None: found by their usual names.
      without: arms to be left out of the table: names, or one text with commas.
      primary: the view that gets verdicts; needed where there are several.
      at: of several steps of a run: the last one, the one with the best score, or this one.
      run: the pattern of names of runs or folders, such as "{arm}_s{seed}".
      repeats: "mean": several rows of one seed are repeats of it, and averaged.
      claim: "superiority", "non_inferior" or "equivalence".
      paired: whether runs of one seed are compared with each other; "auto", the usual: where every
        arm has the baseline's seeds and pairing lowers the variance.
      aa: an arm that is the baseline again at other seeds.
      diverged: what a missing score counts as: "worst", "drop" (the run is left out), or a number.
      unfinished: what a run that did not end well, yet has a score, counts as: "keep" (its score),
        "drop" (the run is left out) or "diverged".
      looks, look: how many looks at growing numbers of seeds are planned, and which one this is.
      alpha: level of the tests over all arms and looks; .05.
      same_unit: scores that look like shares in one arm and percent in another are in one unit.

    Returns:
      Verdicts, results, and what is shown of them.

    Raises:
      UserErrors: all that is wrong with the table and the question, one line each.
    """
    mistakes: list[str] = []
    if claim not in CLAIMS:
        mistakes.append(f"--claim={claim}: must be one of superiority, non_inferior, equivalence")
    if repeats not in (None, "mean"):
        mistakes.append(f"--repeats={repeats}: must be mean")
    if lower_is_better and higher_is_better:
        mistakes.append("--lower_is_better and --higher_is_better: give one of them")
    said_which = lower_is_better or higher_is_better
    asked = Asked(
        arm=arm,
        seed=seed,
        view=view,
        item=item,
        step=step,
        value=value,
        metric=metric,
        run=run,
        at=roles.check_at(str(at), mistakes),
        repeats=repeats,
        baseline=baseline,
        primary=primary,
        without=without if without is None or isinstance(without, str) else ",".join(without),
        higher_is_better=not lower_is_better,
        unfinished=check_how(unfinished, mistakes),
    )
    wanted = Wanted(
        baseline=baseline,
        primary=primary,
        margin=None if margin is None else float(margin),
        higher_is_better=not lower_is_better if said_which else None,
        claim=CLAIMS.get(claim, "superiority"),
        paired=paired,
        aa=aa,
        diverged=checks.check_diverged(diverged, mistakes),
        looks=looks,
        look=look,
        alpha=None if alpha is None else float(alpha),
        same_unit=same_unit,
    )
    mistakes += checks.wanted_mistakes(wanted)
    found = read(table, asked, mistakes)
    question = None
    if found is not None:
        question = checks.question_of(found.runs, wanted, found.said, mistakes)
    if mistakes:
        raise UserErrors([_in_python(line) for line in mistakes])
    assert found is not None and question is not None  # else there is a mistake
    return decide(found.runs, question)


def _in_python(line: str) -> str:
    """A mistake with the arguments of `judge` in place of the command's flags."""

    def argument(flag: re.Match) -> str:
        name = flag[1]
        if name not in inspect.signature(judge).parameters:
            return flag[0]
        return f"{name}=True" if name in _SWITCHES and flag[2] != "=" else name + flag[2]

    return re.sub(r"(?<!\S)--([a-z_]+)(=|)", argument, line)


def read(table: Any, asked: Asked, mistakes: list[str]) -> Reading | None:
    """The runs of files or of a table in memory; None with lines in `mistakes`.

    Args:
      table: files, or a table in memory.
      asked: what is known of the columns, and which arms are left out.
      mistakes: gets the lines.
    """
    before = len(mistakes)
    with collecting(mistakes):
        if asked.run is not None:
            run_names.Pattern(asked.run)
    if len(mistakes) > before:  # which arms there are is not known
        return None
    found = _all_runs(table, asked, mistakes)
    if found is None:
        return None
    runs, said = leaving_out.without(
        found.runs, dict(found.said), asked.without, asked.baseline, mistakes
    )
    return Reading(runs, said)


def _all_runs(table: Any, asked: Asked, mistakes: list[str]) -> Reading | None:
    if isinstance(table, str | os.PathLike):
        table = [table]
    is_files = isinstance(table, Sequence) and all(
        isinstance(each, str | os.PathLike) for each in table
    )
    if is_files:
        with collecting(mistakes):
            paths = files.expanded([os.fspath(each) for each in table])
            return reading.read_files(paths, asked, mistakes)
        return None
    return reading.read_table(table, asked, mistakes)


def decide(
    runs: Runs, question: Question, warnings: Sequence[str] = (), command: str = ""
) -> Judgement:
    """The judge's outcome, ready to be shown."""
    return Judgement(runs, question, judge_runs(runs, question), tuple(warnings), command)
