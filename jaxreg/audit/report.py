"""The findings as a table in the terminal, as JSON, and the list of all checks as Markdown.

`python -m jaxreg.audit.report docs/audit.md` writes that list into a page, between its markers.
"""

import dataclasses
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxreg.audit.bench import SIZE
from jaxreg.audit.check import Finding
from jaxreg.audit.sites import Drawn
from jaxreg.audit.suite import OUR_STEP, YOUR_STEP, all_checks

_STYLES = {
    "ok": "green",
    "FAILED": "bold red",
    "warning": "bold yellow",
    "not applicable": "dim",
    "known": "yellow",
}


_LACKS = re.compile(r"needs (`\w+`(?: and `\w+`)*)(?: of the subject)?")
"""What is said of a check for which the subject lacks a field."""


def counted(findings: Iterable[Finding]) -> str:
    """The number of checks by status: "20 ok, 2 FAILED, 1 not applicable"."""
    counts = Counter(finding.status for finding in findings)
    return ", ".join(f"{counts[status]} {status}" for status in _STYLES if counts[status])


def summary(findings: Iterable[Finding]) -> str:
    """`counted`, and the notes on the findings."""
    findings = list(findings)
    notes = Counter(finding.note for finding in findings if finding.note)
    said = [f"{count} of these look at {note}" for note, count in notes.items()]
    return "; ".join([counted(findings), *said])


def note_lines(findings: Iterable[Finding]) -> list[str]:
    """One line for each note: the checks whose findings it is on."""
    checks: dict[str, list[str]] = {}
    for finding in findings:
        if finding.note:
            checks.setdefault(finding.note, []).append(finding.check)
    cures = {OUR_STEP: f" ({YOUR_STEP})"}
    return [f"{', '.join(names)}: {note}{cures.get(note, '')}" for note, names in checks.items()]


def applying(findings: Iterable[Finding]) -> list[Finding]:
    """The findings of checks that apply; `left_out_lines` says what is left out."""
    return [finding for finding in findings if finding.status != "not applicable"]


def left_out_lines(findings: Iterable[Finding]) -> list[str]:
    """One line for each reason why checks do not apply, and one for all that lack a field."""
    reasons: dict[str, list[str]] = {}
    fields: Counter[str] = Counter()
    num_lacking = 0
    for finding in findings:
        if finding.status != "not applicable":
            continue
        lacking = _LACKS.fullmatch(finding.detail)
        if lacking is None:
            reasons.setdefault(finding.detail, []).append(finding.check)
        else:
            num_lacking += 1
            fields.update(re.findall(r"\w+", lacking[1].replace(" and ", " ")))
    lines = [f"  {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    if num_lacking:
        named = ", ".join(f"`{field}` ({count})" for field, count in fields.most_common())
        lines.append(f"  {num_lacking} that need more of the subject: {named}; --all lists them")
    return ["not applicable:", *lines] if lines else []


def table(name: str, findings: Iterable[Finding]) -> Any:
    """A table of rich: one row for each finding, under the subject's name."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        title=Text(name, style="bold"),
        title_justify="left",
    )
    for heading in ("family", "check", "result", "what was found"):
        made.add_column(heading, no_wrap=heading != "what was found", overflow="fold")
    before = None
    for finding in findings:
        detail = finding.detail
        detail = f"{finding.reason} ({detail})" if finding.reason else detail
        made.add_row(
            "" if finding.family == before else finding.family,
            finding.check,
            Text(finding.status, style=_STYLES[finding.status]),
            Text(detail),
        )
        before = finding.family
    return made


def failure_lines(findings: Iterable[Finding], *, below_table: bool = False) -> list[str]:
    """For each failed check what was found, what one sees of it, and what mends it.

    Args:
      below_table: leaves out what was found, which stands in the table, and why it matters.
    """
    lines = []
    for finding in findings:
        if finding.status == "FAILED":
            check = all_checks()[finding.check][1]
            lines.append(f"{finding.check}:{'' if below_table else f' {finding.detail}'}")
            if finding.raised:
                lines.append("  its traceback stands above; the check could not be made")
                continue
            lines += [f"  must hold: {check.holds}", f"  seen as: {check.symptom}"]
            lines += [] if below_table else [f"  why: {check.why}"]
            lines.append(f"  fix: {check.fix}")
    return lines


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """The findings with one row for a family of which no check applies, for one reason."""
    found = []
    for _, group in itertools.groupby(findings, key=lambda finding: finding.family):
        rows = list(group)
        same = len({(each.status, each.detail) for each in rows}) == 1
        if len(rows) > 1 and same and rows[0].status == "not applicable":
            rows = [dataclasses.replace(rows[0], check=f"{len(rows)} checks")]
        found += rows
    return found


def warning_lines(findings: Iterable[Finding]) -> list[str]:
    """One line for each warning."""
    found = (finding for finding in findings if finding.status == "warning")
    return [f"warning: {each.detail} ({each.check})" for each in found]


def drawn_lines(drawn: Sequence[Drawn], unseen: Sequence[str] = ()) -> list[str]:
    """What training draws, a line for each kind of draw; and what was not looked into."""
    left = [f"  and what {', '.join(unseen)} draws, which was not looked into"] if unseen else []
    if not drawn and not left:
        return ["training draws nothing that is seen in its program"]
    return [f"training draws, for {SIZE} examples:", *(f"  {each}" for each in drawn), *left]


def as_json(name: str, findings: Sequence[Finding], drawn: Sequence[Drawn] = ()) -> str:
    """The findings, their summary, what training draws, and the versions that they depend on."""
    versions = {each: _version(each) for each in ("jaxreg", "jax", "jaxlib", "flax", "optax")}
    found = {
        "subject": name,
        "findings": [
            {
                "check": finding.check,
                "family": finding.family,
                "status": finding.status,
                "detail": finding.detail,
                "reason": finding.reason,
                "note": finding.note,
            }
            for finding in findings
        ],
        "summary": summary(findings),
        "draws": [each._asdict() for each in drawn],
        "failed": [finding.check for finding in findings if finding.status == "FAILED"],
        "versions": versions,
    }
    return json.dumps(found, indent=2, ensure_ascii=False)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def markdown() -> str:
    """The table of all checks for the documentation, a section for each family."""
    lines, before = [], None
    for name, (family, check) in all_checks().items():
        if family != before:
            title = family.replace("_", " / ") if family == "train_eval" else family
            lines += ["", f"### {title}", "", "| check | what must hold | symptom | why | fix |"]
            lines += ["|---|---|---|---|---|"]
            before = family
        needs = f" (needs {', '.join(f'`{n}`' for n in check.needs)})" if check.needs else ""
        cells = (f"`{name}`{needs}", check.holds, check.symptom, check.why, check.fix)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines[1:]) + "\n"


BEGIN, END = "<!-- checks: begin -->\n", "<!-- checks: end -->\n"
"""Between them stands `markdown()` in a page."""


def with_checks(page: str) -> str:
    """A page with the list of all checks between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown()}\n{END}{after}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(with_checks(path.read_text(encoding="utf-8")), encoding="utf-8")
