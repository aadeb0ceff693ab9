"""The checker of types at run time under which all tests run: beartype, but for words.

A wrong word must reach jaxreg's own check, whose one line the tests read; type checkers see words
as `Literal` (tests/typing).
"""

import typing

from beartype import BeartypeConf, FrozenDict, beartype

import jaxreg.typing  # it and jaxreg/__init__.py check no shapes, so they may come before the hook

_WORDS = [
    value for value in vars(jaxreg.typing).values() if typing.get_origin(value) is typing.Literal
]
checked = beartype(conf=BeartypeConf(hint_overrides=FrozenDict(dict.fromkeys(_WORDS, str))))
