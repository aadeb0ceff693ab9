"""`jaxreg judge`: is this difference real? For results of any framework; loads no JAX."""

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxreg.cli import arguments
from jaxreg.cli.arguments import Arguments, Flag, Usage
from jaxreg.errors import DONE, UNMET, UserErrors, nearest, printable

if TYPE_CHECKING:
    from jaxreg.study.commands.judge import Judgement
    from jaxreg.study.tables.checks import Wanted
    from jaxreg.study.tables.roles import Asked

USAGE = Usage(
    command="judge",
    what="say which differences between runs are real, from a file of anybody's results",
    position="FILE",
    position_help=(
        "CSV, TSV, JSON, JSON lines, Parquet, TensorBoard event files, exports of wandb or trackio,"
        " results.json, by gzip, bzip2 or xz too; several files or a pattern: one for each run, or"
        " with the same columns; -: the standard input"
    ),
    flags={
        "--baseline": Flag("ARM", "the arm that all others are compared with"),
        "--metric": Flag("COLUMN", "the column of scores, or a value of the column of metrics"),
        "--lower_is_better": Flag("", "the score is a loss"),
        "--higher_is_better": Flag("", "the score is none, though its name reads as a loss"),
        "--margin": Flag("M", "the smallest effect that matters; without it no verdicts"),
        "--primary": Flag("VIEW", "the view that gets verdicts, where there are several"),
        "--claim": Flag("CLAIM", "superiority (usual), non_inferior or equivalence"),
        "--arm": Flag("COLUMN", "what is compared; several columns with commas name it together"),
        "--without": Flag("ARMS", "arms to be left out of the table, several with commas"),
        "--seed": Flag("COLUMN", "what tells the runs of an arm apart"),
        "--view": Flag("COLUMN", "what a score is on: a split, a data set, a task"),
        "--value": Flag("COLUMN", "the column of scores beside a column of metrics"),
        "--item": Flag("COLUMN", "test items or episodes of a run, which are averaged first"),
        "--step": Flag("COLUMN", "steps of a run, of which one counts"),
        "--at": Flag("STEP", "which step counts: last (usual), best or a number"),
        "--run": Flag("PATTERN", 'arm and seed in names of runs or folders: "{arm}_s{seed}"'),
        "--repeats": Flag("mean", "several rows of one seed are repeats of it, and averaged"),
        "--paired": Flag(
            "WHETHER",
            "compare runs of one seed: yes (the flag alone), no, or auto (usual): where it helps",
            bare="yes",
        ),
        "--aa": Flag("ARM", "the baseline a second time at other seeds: the noise floor"),
        "--diverged": Flag("HOW", "what a missing score counts as: worst, drop or a number"),
        "--unfinished": Flag(
            "HOW", "a run that did not end well, yet has a score: keep it (usual), drop or diverged"
        ),
        "--same_unit": Flag("", "scores near 1 and near 100, and the margin, are in one unit"),
        "--alpha": Flag("A", "level of all tests together; default .05"),
        "--looks": Flag("K", "how many looks at growing numbers of seeds are planned"),
        "--look": Flag("N", "which of the planned looks this is"),
        "--require": Flag(
            "VERDICT:ARM", "exit code 3 unless it is so (supported:muon); several with commas"
        ),
        "--report": Flag("FILE", "write the page, one self-contained .html"),
        "--picture": Flag("FILE", "write the forest plot, .png or .svg"),
        "--markdown": Flag("FILE", "write a table for a pull request, .md"),
        "--json": Flag("", "print all numbers as JSON, for programs"),
        "--no_memory": Flag("", "leave no .FILE.judged.json beside the file"),
        "--plan": Flag("", "say how many seeds are needed, from --sd and --margin; takes no file"),
        "--sd": Flag("SD", "standard deviation over the seeds of an arm, for --plan"),
    },
    many=True,
    examples=(
        "jaxreg judge runs.csv --baseline=adamw --metric=val_loss --lower_is_better --margin=.01",
        "jaxreg judge runs.csv --baseline=adamw --view=split --primary=test --report=verdict.html",
        'jaxreg judge runs/*/metrics.jsonl --run="{arm}_s{seed}" --baseline=adamw --metric=loss',
        "jaxreg judge runs.csv --baseline=adamw --margin=.01 --require=supported:muon",
        "jaxreg judge --plan --sd=.0013 --margin=.001",
    ),
)
VERDICTS = {
    "supported": "supported",
    "refuted": "refuted",
    "opposite": "refuted: opposite",
    "negligible": "refuted: negligible",
    "inconclusive": "inconclusive",
}
"""As --require has it -> how the verdict begins."""
BY_MARGIN = " by the margin"
"""Behind "supported" and "opposite" in --require: it must be shown to be so large."""
_PAIRED: Mapping[str, bool | Literal["auto"]] = {"yes": True, "no": False, "auto": "auto"}


@dataclasses.dataclass(frozen=True)
class _Outputs:
    """Files to be written, or None."""

    report: Path | None
    picture: Path | None
    markdown: Path | None


def run(given: Arguments) -> int:
    """Judges the files, writes what is asked for, and returns the exit code.

    Raises:
      UserErrors: all mistakes; then nothing is written.
    """
    if given.flags["--plan"]:
        return _plan(given)
    from jaxreg.study.commands import judge, judged_before
    from jaxreg.study.tables import checks, files

    mistakes = list(given.mistakes)
    if given.flags["--sd"] is not None:
        mistakes.append("--sd: belongs to --plan; the spread of the runs is in their file")
    asked, wanted = _asked(given.flags, mistakes), _wanted(given.flags, mistakes)
    mistakes += checks.wanted_mistakes(wanted)
    outputs = _outputs(given.flags, mistakes)
    required = _required(given.flags["--require"], mistakes)
    if not given.positions:
        mistakes.append(f"FILE is missing: {USAGE.position_help}")
    found = judge.read(list(given.positions), asked, mistakes) if given.positions else None
    question = None
    if found is not None:
        question = checks.question_of(found.runs, wanted, found.said, mistakes)
        baseline = wanted.baseline or found.said.get("baseline")
        mistakes += _unknown(required, [arm for arm in found.runs.arms if arm != baseline])
        margin = wanted.margin if wanted.margin is not None else found.said.get("margin")
        if required and margin is None:
            mistakes.append("--require: a verdict needs --margin, the smallest effect that matters")
    if mistakes:
        raise UserErrors([printable(line) for line in mistakes])  # names come from the file
    assert found is not None and question is not None  # else there is a mistake
    forgets = bool(given.flags["--no_memory"])
    kept = None if forgets else judged_before.place(files.expanded(given.positions))
    judged = judge.decide(found.runs, question, command=_command(given))
    is_new = kept is not None and not kept.exists()
    warnings = () if kept is None else judged_before.remember(kept, found.runs, question)
    notes = [judged_before.note(kept)] if kept is not None and is_new and kept.exists() else []
    judged = dataclasses.replace(judged, warnings=warnings)
    _write(judged, outputs)
    _print(judged, outputs, notes, as_json=bool(given.flags["--json"]))
    return _exit_code(judged, required)


def _asked(flags: Mapping[str, str | None], mistakes: list[str]) -> "Asked":
    from jaxreg.study.tables import roles, unfinished

    repeats = flags["--repeats"]
    if repeats not in (None, "mean"):
        mistakes.append(f"--repeats={repeats}: must be mean")
    names = ("arm", "seed", "view", "item", "step", "value", "metric", "run")
    names += ("baseline", "primary", "without")
    return roles.Asked(
        **{name: flags[f"--{name}"] for name in names},
        at=roles.check_at(flags["--at"], mistakes),
        repeats=repeats,
        higher_is_better=not flags["--lower_is_better"],
        unfinished=unfinished.check_how(flags["--unfinished"], mistakes),
    )


def _wanted(flags: Mapping[str, str | None], mistakes: list[str]) -> "Wanted":
    from jaxreg.study.tables import checks

    claim, paired = flags["--claim"], flags["--paired"]
    if claim is not None and claim not in checks.CLAIMS:
        hint = nearest(claim, ("superiority", "non_inferior", "equivalence"))
        mistakes.append(f"--claim={claim}: is no claim{hint}")
    if paired is not None and paired not in _PAIRED:
        mistakes.append(f"--paired={paired}: must be yes, no or auto")
    counts = checks.check_diverged(flags["--diverged"], mistakes)
    looks = arguments.whole(flags, "--looks", mistakes, minimum=1)
    look = arguments.whole(flags, "--look", mistakes, minimum=1)
    if flags["--lower_is_better"] and flags["--higher_is_better"]:
        mistakes.append("--lower_is_better and --higher_is_better: give one of them")
    if look is not None and flags["--looks"] is None:
        mistakes.append(f"--look={look}: of how many? give --looks=K")
        look = None
    return checks.Wanted(
        baseline=flags["--baseline"],
        primary=flags["--primary"],
        margin=_margin(flags, mistakes),
        higher_is_better=_higher_is_better(flags),
        claim=checks.CLAIMS.get(claim or "superiority", "superiority"),
        paired=None if paired is None else _PAIRED.get(paired),
        aa=flags["--aa"],
        diverged=counts,
        looks=looks or 1,
        look=look or 1,
        alpha=arguments.number(flags, "--alpha", mistakes),
        same_unit=bool(flags["--same_unit"]),
    )


def _margin(flags: Mapping[str, str | None], mistakes: list[str]) -> float | None:
    text = flags["--margin"]
    if text is not None and text.rstrip().endswith("%"):
        found: list[str] = []
        value = arguments.number({"--margin": text.rstrip()[:-1]}, "--margin", found)
        points = "" if value is None else f": {value:g} for percent, {value / 100:g} for shares"
        mistakes.append(f"--margin={text}: must be a number in the unit of the scores{points}")
        return None
    return arguments.number(flags, "--margin", mistakes)


def _higher_is_better(flags: Mapping[str, str | None]) -> bool | None:
    """None: not said."""
    if flags["--lower_is_better"]:
        return False
    return True if flags["--higher_is_better"] else None


def _outputs(flags: Mapping[str, str | None], mistakes: list[str]) -> _Outputs:
    return _Outputs(
        arguments.output_file(flags, "--report", (".html", ".htm"), mistakes),
        arguments.output_file(flags, "--picture", (".png", ".svg"), mistakes),
        arguments.output_file(flags, "--markdown", (".md",), mistakes),
    )


def _required(text: str | None, mistakes: list[str]) -> list[tuple[str, str]]:
    """(verdict, arm) of every part of --require; verdicts as they are printed will do, too."""
    found = []
    plain = re.sub(r",\s*by the margin\b|_by_(the_)?margin\b", BY_MARGIN, text or "")
    plain = re.sub(r"\brefuted: ?(?=(opposite|negligible)\b[^,]*:)", "", plain)
    for part in [] if text is None else plain.split(","):
        label, colon, arm = part.partition(":")
        kinds = [*VERDICTS, *(kind + BY_MARGIN for kind in ("supported", "opposite"))]
        if label not in kinds:
            hint = nearest(label, kinds)
            mistakes.append(f"--require={part}: {label!r} is no verdict{hint}")
        elif not colon or not arm:
            mistakes.append(f"--require={part}: of which arm? write {label}:ARM")
        else:
            found.append((label, arm))
    return found


def _unknown(required: Sequence[tuple[str, str]], arms: Sequence[str]) -> list[str]:
    return [
        f"--require={label}:{arm}: there is no such arm to be judged{nearest(arm, arms)}"
        for label, arm in required
        if arm not in arms
    ]


def _command(given: Arguments) -> str:
    """What was typed, for the page."""
    words = [
        name if not USAGE.flags[name].metavar else f"{name}={text}"
        for name, text in given.flags.items()
        if text is not None
    ]
    return shlex.join(["jaxreg", "judge", *given.positions, *words])


def _write(judged: "Judgement", outputs: _Outputs) -> None:
    """The files; all are made before the first one is written."""
    from jaxreg.store.atomic import write_bytes

    made: list[tuple[Path, bytes]] = []
    if outputs.report is not None:
        made.append((outputs.report, judged.page().encode("utf-8")))
    if outputs.picture is not None:
        made.append((outputs.picture, judged.picture(outputs.picture.suffix.lower())))
    if outputs.markdown is not None:
        made.append((outputs.markdown, judged.markdown().encode("utf-8")))
    for path, content in made:
        write_bytes(path, content)


def _print(judged: "Judgement", outputs: _Outputs, notes: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        from jaxreg.store.atomic import to_json

        print(to_json(_numbers(judged), indent=2))
        return
    from rich.console import Console
    from rich.text import Text

    from jaxreg.cli import judged_table

    console = Console(highlight=False)
    for line in (*judged.runs.understood, *notes):
        console.print(Text(printable(line), style="dim"))
    console.print(judged_table.table(judged.shown))
    console.print(Text(f"In words: {printable(judged.paragraph())}"))
    for path in (outputs.report, outputs.picture, outputs.markdown):
        if path is not None:
            console.print(Text(f"written: {path}"), soft_wrap=True)


def _numbers(judged: "Judgement") -> dict[str, Any]:
    """All numbers: results, and how the input was read and what was asked."""
    return {
        **judged.results,
        "question": dataclasses.asdict(judged.question),
        "understood": list(judged.runs.understood),
        "warnings": [*judged.runs.warnings, *judged.warnings],
    }


def _exit_code(judged: "Judgement", required: Sequence[tuple[str, str]]) -> int:
    import sys

    from jaxreg.study.analysis.verdict import words

    missed = []
    for label, arm in required:
        verdict = judged.verdicts[arm]
        start = VERDICTS[label.removesuffix(BY_MARGIN)]
        is_large = verdict.by_margin or not label.endswith(BY_MARGIN)
        if not (verdict.label.startswith(start) and is_large):
            said = words(verdict.label, verdict.by_margin)
            missed.append(f"--require={label}:{arm}: {arm} is {said} ({verdict.reason})")
    for line in missed:
        print(f"jaxreg judge: {printable(line)}", file=sys.stderr)
    return UNMET if missed else DONE


def _plan(given: Arguments) -> int:
    """Prints how many seeds a comparison needs, and returns the exit code."""
    from jaxreg.study.commands import judge_plan

    mistakes = list(given.mistakes)
    wanted = _wanted(given.flags, mistakes)
    from jaxreg.study.tables import checks

    mistakes += checks.wanted_mistakes(wanted)
    sd = arguments.number(given.flags, "--sd", mistakes)
    if given.positions:
        mistakes.append(f"--plan: takes no file, but {given.positions[0]} is given")
    if given.flags["--sd"] is None:
        mistakes.append("--sd is missing: the standard deviation over the seeds of an arm")
    elif sd is not None and sd < 0:
        mistakes.append(f"--sd={given.flags['--sd']}: must be 0 or more")
    if given.flags["--margin"] is None:
        mistakes.append("--margin is missing: the smallest effect that matters")
    if mistakes:
        raise UserErrors(mistakes)
    assert sd is not None and wanted.margin is not None
    try:
        lines = judge_plan.lines(
            sd, wanted.margin, alpha=wanted.alpha, claim=wanted.claim, looks=wanted.looks
        )
    except ValueError as error:  # a level that no test reaches
        raise UserErrors([f"--{error}"]) from error
    print("\n".join(lines))
    return DONE
