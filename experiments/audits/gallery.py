"""Audits public models, and writes docs/gallery.md from what was found.

Command:  python -m experiments.audits.gallery NAME ...  writes experiments/results/audit/NAME.json
          python -m experiments.audits.gallery --notes NAME ...  writes notes and confirmations anew
          python -m experiments.audits.gallery           writes docs/gallery.md from them

Each subject is a file in this folder, which says what it needs. It has `get_subject()`; `NOTES`,
for each check that fails what is to be said of it; `confirm()`, which shows the same by hand:
check -> a line; and `PACKAGES`, of which the versions are kept.
"""

import importlib
import json
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results" / "audit"
PAGE = ROOT / "docs" / "gallery.md"
HEAD = """# A gallery of findings

`jaxreg audit` on public models and modules. None is copied here: each file in
[`experiments/audits/`](../experiments/audits) says in its first lines where its subject comes from
(a package, or a repository and commit) and how to audit it. Each finding was confirmed by hand, by
the few lines in `confirm()` of that file. What is documented or meant is called so: a failed check
is a fact about the code, not a verdict on it. Sizes are small (two layers of width 16). All checks
are listed [on the audit's page](audit.md); attention functions by themselves are
[on another](conformance.md).
"""


def audited(name: str) -> dict:
    """What the audit found in a subject, with the notes and confirmations of its file."""
    import jax

    import jaxreg
    from jaxreg.audit import report, suite

    jax.config.update("jax_num_cpu_devices", 4)
    module = importlib.import_module(f"experiments.audits.{name}")
    subject = module.get_subject()
    findings = list(suite.findings(subject, suite.chosen()))
    found = json.loads(report.as_json(subject.name, findings))
    found["versions"] = (
        {"jaxreg": jaxreg.__version__}
        | {package: version for package, version in found["versions"].items() if version}
        | {package: metadata.version(package) for package in module.PACKAGES}
    )
    return found | explained(module, found["failed"])


def explained(module: ModuleType, failed: Sequence[str]) -> dict:
    """What a subject's file says of the checks that failed."""
    return {
        "commit": getattr(module, "COMMIT", None),
        "notes": {check: note for check, note in module.NOTES.items() if check in failed},
        "confirmed": {check: line for check, line in module.confirm().items() if check in failed},
    }


def explained_anew(name: str) -> dict:
    """The committed result of a subject with what its file says now; the audit is not repeated."""
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    module = importlib.import_module(f"experiments.audits.{name}")
    return found | explained(module, found["failed"])


def page() -> str:
    """The page, from the committed results."""
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RESULTS.glob("*.json"))
    }
    rows = ["| audited | failed | warning | ok | not applicable |", "|---|---|---|---|---|"]
    for name, one in found.items():
        statuses = [finding["status"] for finding in one["findings"]]
        failed = ", ".join(f"`{check}`" for check in one["failed"]) or "none"
        counts = [statuses.count(status) for status in ("warning", "ok", "not applicable")]
        rows.append(
            f"| [{one['subject']}](../experiments/results/audit/{name}.json) | {failed} |"
            f" {' | '.join(map(str, counts))} |"
        )
    sections = [section(name, one) for name, one in found.items() if one["failed"]]
    return "\n".join([HEAD, *rows, "", *sections])


def section(name: str, found: dict) -> str:
    """The findings in one subject."""
    packages = [f"{package} {version}" for package, version in found["versions"].items()]
    where = f"{found['commit']}; " if found["commit"] else ""
    lines = [
        f"## {found['subject']}",
        "",
        f"[`{name}.py`](../experiments/audits/{name}.py), {where}{', '.join(packages)}.",
        "",
    ]
    details = {finding["check"]: finding["detail"] for finding in found["findings"]}
    for check in found["failed"]:
        lines += [
            f"* **`{check}`**: {details[check]}.",
            f"  {found['notes'][check]}",
            f"  By hand: {found['confirmed'][check]}.",
        ]
    return "\n".join([*lines, ""])


def main(words: list[str]) -> None:
    """Audits the subjects that are named, or writes the page."""
    names = [word for word in words if word != "--notes"]
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names:
        made = explained_anew(name) if "--notes" in words else audited(name)
        text = json.dumps(made, indent=2, ensure_ascii=False)
        (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    if not names:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
