"""Shipped configs and experiments that need a person's own files, and what stands in for them."""

from pathlib import Path

NEEDS_FILES = ("short_data.py", "short_data_small.py", "short_data_base.py")
_SAMPLE = ("data.path=sample", "data.length=8", "data.num_train=128", "data.num_eval=8")


def overrides_of(path: Path) -> tuple[str, ...]:
    """Overrides with which a config of this name reads the sample; () where it needs none."""
    return _SAMPLE if path.name in NEEDS_FILES else ()
