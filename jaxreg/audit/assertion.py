"""`assert_audit`, for tests."""

from collections.abc import Mapping, Sequence

from jaxreg.audit import report, suite
from jaxreg.audit.subject import Subject


def assert_audit(
    subject: Subject,
    checks: Sequence[str] | None = None,
    *,
    known: Mapping[str, str] | None = None,
    seed: int = 0,
) -> None:
    """Fails where a check fails, with what was found and what mends it.

    Args:
      subject, checks, known, seed: as in `audit.run`.

    Raises:
      AssertionError: a check failed that is not in `known`.
      UserErrors: an unknown check, or one in `known` that is not run.

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
      >>> audit.assert_audit(subject, ["key_repeats"])
    """
    lines = report.failure_lines(suite.run(subject, checks, known=known, seed=seed))
    if lines:
        raise AssertionError("\n".join([f"the audit of {subject.name} failed", *lines]))
