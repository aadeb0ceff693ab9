"""All checks in the order of the table, and `run`, which runs them on a subject."""

import dataclasses
import importlib
import pkgutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import jax

from jaxreg.audit import checks as families
from jaxreg.audit import contract
from jaxreg.audit.bench import Bench, lacking
from jaxreg.audit.check import Check, CheckFailed, Finding, NotApplicable, Warned
from jaxreg.audit.subject import Subject
from jaxreg.errors import UserErrors, nearest, one_line

ORDER = (
    "randomness",
    "train_eval",
    "masking",
    "strengths",
    "devices",
    "decay",
    "clipping",
    "schedule",
    "loss",
    "resume",
    "attention",
)
"""The families, in the order of the table; others come last."""


@cache
def all_checks() -> dict[str, tuple[str, Check]]:
    """Name -> (family, check), of the files of `jaxreg.audit.checks`, each with a table CHECKS."""
    names = sorted(
        (module.name for module in pkgutil.iter_modules(families.__path__)),
        key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name),
    )
    found: dict[str, tuple[str, Check]] = {}
    for family in names:
        module = importlib.import_module(f"{families.__name__}.{family}")
        for name, check in module.CHECKS.items():
            if name in found:
                raise ValueError(f"two checks are called {name}: {found[name][0]}, {family}")
            found[name] = (family, check)
    return found


def chosen(names: Sequence[str] | None = None) -> tuple[str, ...]:
    """The names of checks; a family's name stands for all of its checks, None for all there are.

    Raises:
      UserErrors: names that are neither, one line each.
    """
    known = all_checks()
    by_family: dict[str, list[str]] = {}
    for name, (family, _) in known.items():
        by_family.setdefault(family, []).append(name)
    if names is None:
        return tuple(known)
    unknown = [name for name in names if name not in known and name not in by_family]
    if unknown:
        raise UserErrors(
            [
                f"{name}: there is no such check or family"
                + nearest(name, [*known, *by_family], "jaxreg audit --list names them")
                for name in unknown
            ]
        )
    wanted = {each for name in names for each in by_family.get(name, [name])}
    return tuple(name for name in known if name in wanted)


def run(
    subject: Subject,
    checks: Sequence[str] | None = None,
    *,
    known: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[Finding]:
    """One `Finding` for each check.

    Args:
      subject: what is audited.
      checks: names of checks and families; None means all.
      known: check -> the reason why it may fail.
      seed: of the states, batches and keys that are tried.

    Raises:
      UserErrors: an unknown check; one in `known` that is not run; or the subject's functions take
        or return something else.
      Exception: whatever the subject raises at the first call of its functions. What it raises
        later is a failure of that check, and its traceback goes to the standard error.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np
      >>> from jaxreg import audit
      >>> def batch(seed, size):
      ...     return np.random.default_rng(seed).normal(size=(size, 3)).astype(np.float32)
      ...
      >>> def loss(weights, batch, key, train):
      ...     return (batch @ weights) ** 2
      ...
      >>> subject = audit.Subject(lambda key: jax.random.normal(key, (3,)), loss, batch)
      >>> [finding] = audit.run(subject, ["key_repeats"])
      >>> finding.status
      'ok'
    """
    names = chosen(checks)
    refuse_known(known or {}, names)
    return list(findings(subject, names, known=known, seed=seed))


def refuse_known(known: Mapping[str, str], names: Sequence[str]) -> None:
    """Raises UserErrors for checks that may fail and are not among those that run."""
    chosen([name for name in known if name not in names])  # unknown names are said first
    lines = [f"known: {name} is not among the checks that run" for name in known]
    if wrong := [line for name, line in zip(known, lines) if name not in names]:
        raise UserErrors(wrong)


def findings(
    subject: Subject, names: Sequence[str], *, known: Mapping[str, str] | None = None, seed: int = 0
) -> Iterator[Finding]:
    """`run`, one finding at a time as they come."""
    yield from findings_of(begin(subject, seed), names, known=known)


def begin(subject: Subject, seed: int = 0) -> Bench:
    """The bench of a subject whose functions take and return what they should.

    Raises:
      UserErrors: they do not.
      Exception: whatever the subject raises at the first call of its functions.
    """
    bench = Bench(subject, seed)
    # Coarser products round by more than the tolerances.
    with jax.default_matmul_precision("highest"):
        contract.check(bench)
    return bench


def findings_of(
    bench: Bench, names: Sequence[str], *, known: Mapping[str, str] | None = None
) -> Iterator[Finding]:
    """The findings of a bench that `begin` made."""
    for name in names:
        with jax.default_matmul_precision("highest"):
            finding = outcome(bench, name)
        reason = (known or {}).get(name)
        if finding.status in ("FAILED", "warning") and reason is not None:
            finding = dataclasses.replace(finding, status="known", reason=reason)
        yield finding


OUR_STEP = "jaxreg's step with your optimizer; your own train_step is not seen"
"""The note on what is found of a step that is not the person's."""
YOUR_STEP = "pass yours as train_step= of audit.nnx, or step= of audit.train_state"
"""How it is seen."""


def outcome(bench: Bench, name: str) -> Finding:
    """The finding of one check."""
    found, check = _outcome(bench, name), all_checks()[name][1]
    if found.status in ("ok", "FAILED") and bench.step_is_ours:
        if "step" in (*check.needs, *check.uses):
            return dataclasses.replace(found, note=OUR_STEP)
    return found


def _outcome(bench: Bench, name: str) -> Finding:
    family, check = all_checks()[name]
    missing = lacking(bench.subject, check.needs)
    if missing:
        needed = " and ".join(f"`{field}`" for field in missing)
        return Finding(name, family, "not applicable", f"needs {needed} of the subject")
    try:
        return Finding(name, family, "ok", check.run(bench))
    except NotApplicable as reason:
        status = "warning" if isinstance(reason, Warned) else "not applicable"
        return Finding(name, family, status, str(reason))
    except CheckFailed as reason:
        return Finding(name, family, "FAILED", str(reason))
    except Exception as error:
        print(contract.their_trace(error), end="", file=sys.stderr)
        said = f"raised {type(error).__name__}: {one_line(error, 120)}"
        return Finding(name, family, "FAILED", said, raised=True)
