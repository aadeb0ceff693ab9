"""Resolves `module:function` or `module:factory(name=literal)` to the function, without eval."""

import ast
import importlib
from collections.abc import Callable
from typing import Any

from jaxreg.attention.conformance.result import first_line
from jaxreg.errors import UserErrors

FORMS = "module:function, or module:factory(name=value) with literal values"


def load(words: str) -> Callable[..., Any]:
    """The function that `words` name.

    Args:
      words: "package.module:function", where function may have dots; or a call of a factory whose
        arguments are Python literals, as in "jaxreg:attention_fn(unit='key')".

    Raises:
      UserErrors: no such module or function, an argument that is no literal, a factory that refuses
        its arguments.
    """
    module_name, colon, expression = words.partition(":")
    if not colon or not module_name or not expression:
        raise UserErrors([f"{words!r}: give {FORMS}"])
    try:
        node = ast.parse(expression.strip(), mode="eval").body
    except SyntaxError:
        raise UserErrors([f"{words!r}: cannot be read; give {FORMS}"]) from None
    call = node if isinstance(node, ast.Call) else None
    function = _attribute(_module(module_name), call.func if call else node, words)
    if call:
        function = _made(function, call, words)
    if not callable(function):
        raise UserErrors([f"{words}: is a {type(function).__name__}, not a function"])
    return function


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise UserErrors([f"{name}: there is no such module"]) from None
        raise UserErrors([f"{name}: importing it needs the missing module {error.name}"]) from None
    except Exception as error:
        raise UserErrors([f"{name}: importing it fails: {first_line(error)}"]) from error


def _attribute(module: Any, node: ast.expr, words: str) -> Any:
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise UserErrors([f"{words!r}: cannot be read; give {FORMS}"])
    found = module
    for name in [node.id, *reversed(names)]:
        if not hasattr(found, name):
            owner = getattr(found, "__name__", type(found).__name__)
            raise UserErrors([f"{words}: {owner} has no {name}"])
        found = getattr(found, name)
    return found


def _made(factory: Any, call: ast.Call, words: str) -> Any:
    try:
        positional = [ast.literal_eval(value) for value in call.args]
        named = {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in call.keywords}
    except ValueError:
        allowed = "a number, a string, True, None, or a tuple of such"
        raise UserErrors([f"{words!r}: an argument is no literal ({allowed})"]) from None
    if "" in named:  # of **, which has no name
        raise UserErrors([f"{words!r}: ** cannot be read; give {FORMS}"])
    try:
        return factory(*positional, **named)
    except (TypeError, ValueError) as error:
        raise UserErrors([f"{words}: {first_line(error)}"]) from None
