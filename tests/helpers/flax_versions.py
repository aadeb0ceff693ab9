"""What the suite finds in Flax's functions, by version: the one place where versions differ."""

import flax
from packaging.version import Version

RATES = ("rate_1", "rate_nan", "rate_negative", "rate_above_1")
LINEN, NNX = "flax.linen:dot_product_attention", "flax.nnx:dot_product_attention"

FAILED = {
    LINEN: {"0": RATES},
    NNX: {"0": RATES, "0.12.12": ()},  # since 0.12.12 it refuses rates outside [0, 1) itself
}
"""Function -> version from which on -> the checks that fail."""


def failed(words: str, version: str = flax.__version__) -> set[str]:
    """The checks that Flax's function `words` is known to fail at `version`."""
    known = [(Version(since), checks) for since, checks in FAILED[words].items()]
    return set(max(entry for entry in known if entry[0] <= Version(version))[1])


def at(words: str, version: str, statuses: dict[str, str]) -> dict[str, str]:
    """`statuses`, which were found at `version`, as they are at the version that is installed."""
    changed = failed(words) ^ failed(words, version) if words in FAILED else set()
    other = {"ok": "FAILED", "FAILED": "ok"}
    return {check: other[s] if check in changed else s for check, s in statuses.items()}
