"""The checker of types at run time under which all tests run: beartype, but for words.

A wrong word must reach jaxreg's own check, whose one line the tests read; type checkers see words
as `Literal` (tests/typing).
"""

import functools
import types
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, FrozenDict, beartype

import jaxreg.typing  # it and jaxreg/__init__.py check no shapes, so they may come before the hook

_WORDS = [
    value for value in vars(jaxreg.typing).values() if typing.get_origin(value) is typing.Literal
]
checked = beartype(
    conf=BeartypeConf(
        hint_overrides=FrozenDict(dict.fromkeys(_WORDS, str)), violation_type=TypeError
    )
)


def has_shapes(hint: Any) -> bool:
    """Whether a type hint has the shape of an array in it, or may have: a string is not read."""
    if isinstance(hint, str) or getattr(hint, "__module__", "").startswith("jaxtyping"):
        return True
    return any(map(has_shapes, typing.get_args(hint)))


def _without_shapes(function: Callable) -> Callable:
    """`function` with its types checked, unless jaxtyping is switched off."""
    inner = checked(function)

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        own = function if jaxtyping.config.jaxtyping_disable else inner
        return own(*arguments, **options)

    return call


def faster(jaxtyped: Callable) -> Callable:
    """`jaxtyping.jaxtyped` for the import hook: most functions have no shapes in their signatures,
    and are checked by beartype alone. jaxtyping binds the arguments of each call and checks them
    twice, which takes thirty times as long, and compiles two functions for each.
    """

    def decorator_of(*, typechecker: Any) -> Callable:
        shaped = jaxtyped(typechecker=typechecker)

        def decorate(defined: Any) -> Any:
            if not isinstance(defined, types.FunctionType):
                return shaped(defined)
            hints = defined.__annotations__.values()
            if any(map(has_shapes, hints)):
                return shaped(defined)
            return _without_shapes(defined) if hints else defined

        return decorate

    return decorator_of
