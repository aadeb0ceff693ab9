"""Fields that modules share by name, and what is asked of them, in Linen and in NNX."""

import dataclasses
from typing import Any


def handed_down(module: Any, part: type) -> dict[str, Any]:
    """The values of the fields that `module` has in common with `part`, by name: what a block gives
    to its attention.
    """
    names = {field.name for field in dataclasses.fields(part) if field.init} - {"parent", "name"}
    return {
        field.name: getattr(module, field.name)
        for field in dataclasses.fields(module)
        if field.name in names
    }


def rate_names(module: Any) -> tuple[str, ...]:
    """The fields of a module that are drop probabilities."""
    return tuple(field.name for field in dataclasses.fields(module) if field.name.endswith("_rate"))
