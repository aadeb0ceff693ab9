"""Prints the table of all saved conformance tables, for docs/conformance.md.

Command:  python -m experiments.conformance.table
"""

from pathlib import Path

from jaxreg.attention.conformance import CHECKS, report

FOLDER = Path(__file__).parents[1] / "results" / "conformance"
COLUMNS = (
    "jaxreg",
    "flax_linen",
    "flax_nnx",
    "jax_nn",
    "keras",
    "equinox",
    "attnax",
    "ejkernel",
    "tokamax",
    "flash_attention_jax",
)
"""Files of saved tables, without their ending."""
CELLS = {"ok": "ok", "FAILED": "**FAILED**", "not offered": "not offered", None: ""}


def lines() -> list[str]:
    """The table in Markdown: a row for each check, then one with the versions."""
    texts = {name: (FOLDER / f"{name}.txt").read_text(encoding="utf-8").strip() for name in COLUMNS}
    found = {name: report.statuses(text) for name, text in texts.items()}
    rows = [(check, *(CELLS[found[name].get(check)] for name in COLUMNS)) for check in CHECKS]
    versions = (text.splitlines()[-1].removeprefix("with ") for text in texts.values())
    links = (f"[{name}](../experiments/results/conformance/{name}.txt)" for name in COLUMNS)
    head = [("check", *links), ("---",) * (1 + len(COLUMNS))]
    return [f"| {' | '.join(row)} |" for row in [*head, *rows, ("with", *versions)]]


if __name__ == "__main__":
    print("\n".join(lines()))
