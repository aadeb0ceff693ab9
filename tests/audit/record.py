"""Every planted fault through all checks, clean models at 50 seeds, and the record of it.

    python -m tests.audit.record [faults] [attention] [clean] [--part=1/2]

More than an hour on one core, so it is no test; test_record.py looks at what is committed. Each
outcome is written as soon as it is there, and one that is there is not computed again: where it was
stopped it goes on. docs/audit.md has the counts: `python -m tests.audit.record --page` writes them.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxreg.attention import conformance
from jaxreg.audit import suite
from jaxreg.audit.bench import Bench
from jaxreg.audit.subject import Subject
from tests.audit import planted, planted_optimizers
from tests.helpers import faulty_attention

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).parent / "record.json"
PAGE = ROOT / "docs" / "audit.md"
BEGIN, END = "<!-- checked: begin -->\n", "<!-- checked: end -->\n"
SEEDS, AT_ONCE = 50, 5
DEVICES = 8
"""As in the tests; the checks of the family devices need several."""
MODEL = ("randomness", "train_eval", "masking", "strengths", "devices")
"""Families of which the faults are in planted.py."""
TRAINING = ("decay", "clipping", "schedule", "loss", "resume")
"""Families of which the faults are in planted_optimizers.py."""

KIND = dict(
    zip(
        planted_optimizers.FAULTS,
        list(planted_optimizers.MODELS) * len(planted_optimizers.FAULTS),
        strict=False,
    )
)
"""Fault of the optimizer, the loss or the state -> the model that has it: all three in turn."""


class Clean(NamedTuple):
    """A model without a fault, and the families that are asked about it."""

    make: Callable[[], Subject]
    families: tuple[str, ...]


def _trained(kind: str) -> Clean:
    options = planted_optimizers.Options(kind)
    return Clean(lambda: planted_optimizers.make(options), TRAINING)


CLEAN = {
    "linen": Clean(planted.linen_subject, MODEL),
    "nnx": Clean(planted.nnx_subject, MODEL),
    "bidirectional": Clean(lambda: planted.linen_subject("bidirectional", causal=False), MODEL),
    **{f"{kind}, trained": _trained(kind) for kind in planted_optimizers.MODELS},
}

FAULTS: dict[str, Callable[[], Subject]] = {
    **planted.FAULTS,
    **{
        name: lambda name=name: planted_optimizers.faulty(name, KIND[name])
        for name in planted_optimizers.FAULTS
    },
}
"""Check -> a subject with the one fault that it finds."""

ATTENTION = faulty_attention.FAULTS | faulty_attention.FAR_FAULTS
"""Fault of an attention function -> the function, and the checks that it fails."""


def failed(subject: Subject, names: Iterable[str], seed: int = 0) -> list[str]:
    """The checks that fail."""
    found = suite.findings(subject, tuple(names), seed=seed)
    return [finding.check for finding in found if finding.status == "FAILED"]


def failed_of_attention(name: str) -> set[str]:
    """The checks of the conformance suite that a faulty attention function fails."""
    quick = name in faulty_attention.FAULTS
    found = [r for r in conformance.run(ATTENTION[name][0], quick=quick) if r.status == "FAILED"]
    # An exception, be it the suite's own, counts as a failure of the function: none of these faults
    # is to be found that way.
    assert not [result for result in found if "Error: " in result.detail]
    return {result.check for result in found}


def outcomes(name: str, before: dict[str, Any], seeds: int = SEEDS) -> Iterator[dict[str, Any]]:
    """What the checks say of a clean model, as the record has it, after every few seeds.

    before: what the record has already; {} for nothing.
    """
    bench, names = Bench(CLEAN[name].make()), suite.chosen(CLEAN[name].families)
    alarms = {check: list(at) for check, at in before.get("alarms", {}).items()}
    silent = set(before.get("silent", ()))
    first = before.get("seeds", 0)
    for seed in range(first, seeds):
        bench = bench.reseeded(seed)
        for finding in (suite.outcome(bench, check) for check in names):
            if finding.status == "FAILED":
                alarms.setdefault(finding.check, []).append(seed)
            elif finding.status != "ok":
                silent.add(finding.check)
        if (seed + 1) % AT_ONCE == 0 or seed + 1 == seeds:
            found = {"seeds": seed + 1, "checks": len(names), "alarms": alarms}
            yield found | {"silent": sorted(silent)}


def write(parts: Iterable[str], share: tuple[int, int]) -> None:
    """Computes what the record lacks of these parts."""
    names = {"faults": list(FAULTS), "attention": list(ATTENTION), "clean": list(CLEAN)}
    for part in parts:
        for name in names[part][share[0] - 1 :: share[1]]:
            start = time.monotonic()
            for found in _made(part, name):
                print(f"{part} {name}: {found} ({time.monotonic() - start:.0f} s)", flush=True)
                _add(part, name, found)
            jax.clear_caches()  # Linux allows a process as many memory mappings as 16 audits


def _made(part: str, name: str) -> Iterator[Any]:
    """What the record lacks of one fault or model."""
    known = read().get(part, {})
    if part == "clean":
        yield from outcomes(name, known.get(name, {}))
    elif name not in known and part == "faults":
        yield failed(FAULTS[name](), suite.chosen())
    elif name not in known:
        yield sorted(failed_of_attention(name))


def read() -> dict[str, Any]:
    """The record, {} where there is none."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def _add(part: str, name: str, found: Any) -> None:
    record = read()
    record["versions"] = {each: metadata.version(each) for each in ("jax", "flax", "optax")}
    record.setdefault(part, {})[name] = found
    text = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False)
    beside = RECORD.with_suffix(f".{os.getpid()}")
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(RECORD)


def counts() -> str:
    """What was checked, in words, from the record."""
    record = {"faults": {}, "attention": {}} | read()
    clean = record["clean"].values()
    seeds = sum(each["seeds"] for each in clean)
    asked = sum(each["seeds"] * (each["checks"] - len(each["silent"])) for each in clean)
    alarms = sum(len(seeds) for each in clean for seeds in each["alarms"].values())
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    most = 100 * (1 - 0.05 ** (1 / seeds))
    others = len(suite.chosen()) - 1
    alone = sum(found == [name] for name, found in record["faults"].items())
    exact = sum(set(found) == ATTENTION[n][1] for n, found in record["attention"].items())
    through = len(record["attention"])
    return (
        f"- {len(FAULTS)} small training codes (Linen, NNX, plain JAX) with one fault each, one for"
        " every check: the tests put every one through its own check, which finds it."
        f" {len(record['faults'])} of {len(FAULTS)} went through all checks:"
        f" {'each' if alone == len(record['faults']) else alone} failed its own, and none of the"
        f" {others} others.\n"
        f"- {len(ATTENTION)} faulty attention functions: the tests put every one through its own"
        f" checks. {through} of {len(ATTENTION)} went through the whole conformance suite:"
        f" {'each' if exact == through else exact} failed the checks that are named for it, and no"
        " other.\n"
        f"- Clean models: {_listed(record['clean'])}. In all {asked:,} outcomes of checks:"
        f" {alarms} false alarms. (With none in {seeds} audits, at most {most:.1f}% of audits have"
        " one, at 95%.)\n"
        f"\nWith {versions}, on a CPU: `python -m tests.audit.record`.\n"
    )


def _listed(clean: dict[str, Any]) -> str:
    return "; ".join(f"{name} at {each['seeds']} seeds" for name, each in clean.items())


def with_counts(page: str) -> str:
    """A page with the counts between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{counts()}\n{END}{after}"


def main() -> None:
    """Writes the record, or the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=("faults", "attention", "clean", []))
    parser.add_argument("--part", default="1/1", help="every nth, from the kth: k/n")
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    if given.page:
        PAGE.write_text(with_counts(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)  # as in the tests: quicker to compile
    jax.config.update("jax_num_cpu_devices", DEVICES)
    first, every = map(int, given.part.split("/"))
    write(given.parts or ("faults", "attention", "clean"), (first, every))


if __name__ == "__main__":
    main()
