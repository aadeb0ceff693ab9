"""The digest of a piece: of the object that its name is bound to and the person's code it uses.

What is covered, from the object on, however deep and with cycles:

- functions and lambdas: their syntax tree, wherever they are defined; defaults; what their closure
  holds; the globals that they read; the modules of theirs that they import inside;
- classes: syntax tree, bases, metaclass, every attribute and method, defaults of dataclass fields;
- instances: class and state, as dataclasses or pickle see it; so partial objects, jitted and
  wrapped functions, enums, arrays, PRNG keys, containers;
- modules of theirs: the syntax tree of the file, the modules of theirs that it imports, and what
  its globals hold now;
- files that the person declares, by their bytes;
- libraries that jaxreg does not require itself, by what is installed of them (`libraries`).

*Theirs* is what lies neither in the standard library, nor in site-packages, nor in jaxreg. What is
not theirs is named and not opened. A function or class that a library made (a closure of optax, a
wrapper) is named with what it holds.

The digest holds no addresses in memory and no paths of the machine, and no order of sets: it is
the same in every process, folder and Python from 3.11 to 3.13. Formatting, comments and docstrings
do not change it. What cannot be followed is refused: code without a source, state that pickle
refuses, `eval` and its like. Not seen are files that nobody declares, environment variables
that are read while a piece runs, and libraries that are changed while a process runs.
"""

import ast
import copyreg
import dataclasses
import enum
import functools
import hashlib
import importlib
import importlib.util
import inspect
import logging
import sys
import types
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from flax import linen

from jaxreg import syntax
from jaxreg.store.digests import array_digest, json_digest
from jaxreg.study.design import libraries
from jaxreg.study.design.user_files import is_their_module, is_theirs

_LOADERS = frozenset({"exec_module", "import_module", "load_module", "run_module", "run_path"})
_DYNAMIC = _LOADERS | {"eval", "exec", "globals", "__import__"}
"""Names of what runs or finds code that no tree shows."""

_NO_CONTENT = frozenset(
    {
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__conditional_annotations__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__match_args__",
        "__module__",
        "__orig_bases__",
        "__parameters__",
        "__qualname__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
    }
)
"""Attributes of a class that follow from its tree, or do not affect what it computes."""

_OF_A_WRAPPER = frozenset(
    {*functools.WRAPPER_ASSIGNMENTS, "__wrapped__", "__type_params__", "_jit_info"}
)
"""What `functools.wraps` copies, and where a jitted function stands in its file."""

_DESCRIPTORS = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.MethodWrapperType,
)


class Unaddressable(ValueError):
    """Something that a piece depends on cannot be followed; one line."""


def piece_digest(value: Any, folder: Path, files: Iterable[str] = ()) -> str:
    """sha256 of what an object is and comes from, 64 hexadecimal digits.

    Args:
      value: a class, a function, or any other object.
      folder: of the person's file; texts and paths that begin with it count as relative to it.
      files: that the object reads, relative to `folder`.

    Raises:
      Unaddressable: something in it cannot be followed.
    """
    read = {name: _file_digest(folder, name) for name in sorted(set(files))}
    walk = _Walk(folder)
    try:
        content = walk.content(value)
    except RecursionError:
        raise Unaddressable("something in it is nested too deeply to be followed") from None
    used = libraries.installed(walk.packages)
    return json_digest([content, read, *([used] if used else [])])


def _file_digest(folder: Path, name: str) -> str:
    try:
        return hashlib.sha256((folder / name).read_bytes()).hexdigest()
    except OSError as error:
        raise Unaddressable(f"files: {name!r} cannot be read ({error.strerror})") from None


@dataclasses.dataclass(frozen=True)
class _Source:
    """A parsed source: functions by (first line, name), classes by qualified name."""

    tree: ast.Module
    functions: Mapping[tuple[int, str], list[Any]]
    classes: Mapping[str, list[ast.ClassDef]]


@functools.lru_cache(maxsize=32)
def _parsed(text: bytes) -> _Source:
    tree = ast.parse(text)
    functions: dict[tuple[int, str], list[ast.AST]] = {}
    classes: dict[str, list[ast.ClassDef]] = {}
    todo: list[tuple[ast.AST, str]] = [(tree, "")]
    while todo:
        node, above = todo.pop()
        inside = above
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            name = getattr(node, "name", "<lambda>")
            decorators = getattr(node, "decorator_list", [])
            line = min(each.lineno for each in (node, *decorators))
            functions.setdefault((line, name), []).append(node)
            inside = f"{above}{name}.<locals>."
        elif isinstance(node, ast.ClassDef):
            classes.setdefault(f"{above}{node.name}", []).append(node)
            inside = f"{above}{node.name}."
        todo += [(child, inside) for child in ast.iter_child_nodes(node)]
    return _Source(tree, functions, classes)


def _source(file: str) -> _Source:
    try:
        return _parsed(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        raise Unaddressable(f"the source {file} cannot be read") from None


class _Walk:
    """One walk over an object; what was met before is a number from then on."""

    def __init__(
        self, folder: Path, around: frozenset[int] = frozenset(), packages: set[str] | None = None
    ):
        self.folder, self.around = folder, around  # around: the sets that this walk is inside of
        self.packages = set() if packages is None else packages  # names of libraries, seen so far
        self.folders = tuple(dict.fromkeys((str(folder), str(folder.resolve()))))
        self.met: dict[int, int] = {}
        self.alive: list[Any] = []  # an id is an object's own only while it lives

    def content(self, value: Any) -> Any:
        """What JSON shows of an object."""
        if value is None or isinstance(value, bool) or type(value) is int:
            return value
        if type(value) is str or isinstance(value, PurePath):
            return self._text(value)
        if type(value) in (float, complex, bytes, range, type(...), type(NotImplemented)):
            return [type(value).__name__, repr(value)]
        if type(value) in (tuple, frozenset, set):
            return [type(value).__name__, self._members(value)]
        if id(value) in self.met:
            return ["met", self.met[id(value)]]
        self.met[id(value)] = len(self.met)
        self.alive.append(value)
        return self._compound(value)

    def _text(self, value: str | PurePath) -> list[str]:
        text = str(value)
        for folder in self.folders:
            if text == folder or text.startswith(f"{folder}/"):
                return [type(value).__name__, "<folder>" + PurePath(text).as_posix()[len(folder) :]]
        return [type(value).__name__, text]

    def _members(self, value: Iterable[Any]) -> list[Any]:
        if isinstance(value, tuple):
            return [self.content(each) for each in value]
        # The order of a set is chance: each member is walked alone, and then they are sorted.
        if id(value) in self.around:
            return ["itself"]
        around = self.around | {id(value)}
        alone = [_Walk(self.folder, around, self.packages).content(each) for each in value]
        return sorted(json_digest(each) for each in alone)

    def _compound(self, value: Any) -> Any:
        if isinstance(value, types.ModuleType):
            return self._module(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if type(value) is list:
            return ["list", *map(self.content, value)]
        if type(value) in (dict, types.MappingProxyType):
            return ["dict", [[self.content(k), self.content(v)] for k, v in value.items()]]
        if isinstance(value, logging.Logger):  # text only, computes nothing
            return ["logger"]
        return (
            self._part(value) or self._array(value) or self._named(value) or self._instance(value)
        )

    def _part(self, value: Any) -> Any:
        """What Python makes of functions and classes; None for anything else."""
        if isinstance(value, types.MethodType):
            return ["method", self.content(value.__self__), self.content(value.__func__)]
        if isinstance(value, _DESCRIPTORS):
            owner = getattr(value, "__objclass__", None) or getattr(value, "__self__", None)
            return ["slot", self.content(owner), value.__name__]
        if isinstance(value, property):
            return ["property", *map(self.content, (value.fget, value.fset, value.fdel))]
        if isinstance(value, functools.cached_property):  # Python 3.11 has a lock in its state
            return ["cached property", self.content(value.func)]
        if isinstance(value, staticmethod | classmethod):
            return [type(value).__name__, self.content(value.__func__)]
        if isinstance(value, functools.partial):
            held = (value.func, value.args, value.keywords)
            return ["partial", *map(self.content, held)]
        if isinstance(value, types.CellType):
            return ["cell", self._cell(value)]
        return None

    def _array(self, value: Any) -> Any:
        """Of arrays, NumPy's and JAX's, and of JAX's typed keys."""
        jax = sys.modules.get("jax")
        if jax is not None and isinstance(value, jax.Array):
            if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
                return ["key", str(value.dtype), self._array(jax.random.key_data(value))]
            value = np.asarray(value)
        if not isinstance(value, np.ndarray | np.generic):
            return None
        array = np.asarray(value)
        if array.dtype.hasobject:
            return ["objects", list(array.shape), *map(self.content, array.ravel().tolist())]
        try:
            return ["array", array_digest(array)]
        except TypeError:  # texts and records
            return ["array", str(array.dtype), list(array.shape), array.tobytes().hex()]

    # --- what is not theirs is named

    def _library(self, module: str) -> None:
        """Notes that a module of a library is used."""
        self.packages.add(module.partition(".")[0])

    def _named(self, value: Any) -> Any:
        """[module, name] of what a library holds under its own name; None for anything else."""
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
        module = getattr(value, "__module__", None)
        if isinstance(value, np.ufunc):
            module = "numpy"
        if module is None and isinstance(value, types.BuiltinMethodType):
            module = type(value.__self__).__module__  # such as random.random
            name = value.__name__
        if not isinstance(name, str) or not isinstance(module, str):
            return None
        home = sys.modules.get(module)
        if home is None or is_their_module(home):
            return None
        found: Any = home
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not value:
            return None
        self._library(module)
        return ["named", module, name]

    # --- functions

    def _function(self, function: types.FunctionType) -> Any:
        file = function.__code__.co_filename
        if file.startswith("<") or not is_theirs(file):
            return self._named(function) or self._foreign_function(function)
        nodes = _nodes_of(function)
        if not nodes:
            raise Unaddressable(
                f"the function {function.__qualname__} is not in {file} as it is now"
            )
        code = self._code(nodes, function.__globals__)
        more = {name: x for name, x in vars(function).items() if name != "__wrapped__"}
        return ["function", code, *self._held(function), self.content(more)]

    def _foreign_function(self, function: types.FunctionType) -> Any:
        """A function that a library made, such as a closure: its name and what it holds."""
        home = function.__globals__.get("__name__", "")
        code = function.__code__
        self._library(home)
        if code.co_filename.startswith("<") and is_their_module(sys.modules.get(home)):
            raise Unaddressable(
                f"the function {function.__qualname__} was made from a text; it has no source"
            )
        wrapped = self.content(getattr(function, "__wrapped__", None))
        return ["made", home, code.co_qualname, *self._held(function), wrapped]

    def _held(self, function: types.FunctionType) -> list[Any]:
        """Defaults and closure of a function."""
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        return [
            self.content(function.__defaults__),
            self.content(function.__kwdefaults__),
            [[name, self._cell(cell)] for name, cell in sorted(cells, key=lambda pair: pair[0])],
        ]

    def _cell(self, cell: types.CellType) -> Any:
        try:
            return [self.content(cell.cell_contents)]
        except ValueError as error:
            if isinstance(error, Unaddressable):
                raise
            return []  # bound later

    def _code(self, nodes: list[Any], scope: Mapping[str, Any]) -> Any:
        """Trees, with the globals that they read and the modules of theirs that they import."""
        inner = [node for root in nodes for node in ast.walk(root)]
        names = {node.id for node in inner if isinstance(node, ast.Name)}
        attributes = {node.attr for node in inner if isinstance(node, ast.Attribute)}
        dynamic = sorted(names & _DYNAMIC | attributes & _LOADERS)
        if dynamic:
            raise Unaddressable(f"it uses {dynamic[0]}, and what that runs cannot be followed")
        return {
            "tree": syntax.tree_digest(*nodes),
            "globals": {name: self.content(scope[name]) for name in sorted(names & set(scope))},
            "imports": self._imports(nodes, scope.get("__package__") or ""),
        }

    def _imports(self, nodes: Iterable[ast.AST], package: str) -> list[Any]:
        """The modules of theirs that trees import, anywhere in them."""
        found: dict[str, Any] = {}
        for node in nodes:
            for module, names in syntax.imports_of(node, package):
                for name in (module, *(f"{module}.{each}" for each in names)):
                    loaded = _their_module_named(name)
                    if loaded is None:
                        self._library(name)
                    elif name not in found:
                        found[name] = self.content(loaded)
        return sorted(found.items())

    # --- classes

    def _class(self, cls: type) -> Any:
        module = sys.modules.get(cls.__module__)
        if not is_their_module(module):
            return self._named(cls) or self._foreign_class(cls)
        nodes, scope = _class_nodes(cls, module)
        code = self._code(nodes, scope) if nodes else None
        if issubclass(cls, enum.Enum):
            held: Any = [
                [name, self.content(each.value)] for name, each in vars(cls)["_member_map_"].items()
            ]
        else:
            held = self._namespace(cls, generated_follow=bool(nodes))
        return [
            "class",
            cls.__name__,
            self.content(cls.__bases__),
            self.content(type(cls)),
            code,
            held,
        ]

    def _foreign_class(self, cls: type) -> Any:
        """A class that a library made, such as by `nn.remat`: its bases and what it holds."""
        self._library(cls.__module__)
        held = {
            name: self._if_it_can(value)
            for name, value in sorted(vars(cls).items())
            if name not in _NO_CONTENT
        }
        return ["made", cls.__name__, self.content(cls.__bases__), held]

    def _namespace(self, cls: type, *, generated_follow: bool) -> Any:
        """A class's attributes by name, without methods generated from its tree and fields."""
        held = {}
        for name, value in sorted(vars(cls).items()):
            follows = (generated_follow or _is_record(cls)) and _is_generated(value)
            if name not in _NO_CONTENT and not follows:
                held[name] = self.content(value)
        fields = vars(cls).get("__dataclass_fields__", {})
        parts = ("default", "default_factory", "init", "kw_only", "compare", "metadata")
        return [
            held,
            [
                [name, *(self.content(getattr(f, part)) for part in parts)]
                for name, f in fields.items()
            ],
        ]

    # --- instances

    def _instance(self, value: Any) -> Any:
        cls = type(value)
        if isinstance(value, enum.Enum):
            return ["enum", self.content(cls), value.name]
        if hasattr(value, "__wrapped__"):  # jitted, cached, with a derivative of its own
            state = getattr(value, "__dict__", {})
            more = {name: x for name, x in state.items() if name not in _OF_A_WRAPPER}
            return ["wraps", cls.__name__, self.content(value.__wrapped__), self.content(more)]
        if dataclasses.is_dataclass(value):
            return ["instance", self.content(cls), self._fields(value)]
        return ["instance", self.content(cls), self._reduced(value)]

    def _fields(self, value: Any) -> Any:
        """The state of a dataclass: its fields, and what else it holds but values it remembers."""
        cls = type(value)
        fields = [field.name for field in dataclasses.fields(value)]
        more = [
            name
            for name in sorted(getattr(value, "__dict__", {}))
            if name not in fields
            and not isinstance(value, linen.Module)  # what Flax stores in an instance
            and not isinstance(getattr(cls, name, None), functools.cached_property)
        ]
        return [[name, self.content(getattr(value, name, None))] for name in (*fields, *more)]

    def _reduced(self, value: Any) -> Any:
        """The state of an object as pickle would take it, and not written."""
        reduce = copyreg.dispatch_table.get(type(value))
        try:
            parts: Any = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception as error:
            raise Unaddressable(
                f"a {type(value).__module__}.{type(value).__qualname__} cannot be followed"
                f" ({error})"
            ) from None
        if isinstance(parts, str):
            if callable(value):
                raise Unaddressable(f"{parts} is compiled code of unknown origin")
            return ["name", parts]
        return [
            list(map(self.content, part)) if index > 2 and part is not None else self.content(part)
            for index, part in enumerate(parts)
        ]

    # --- modules

    def _module(self, module: types.ModuleType) -> Any:
        if not is_their_module(module):
            self._library(module.__name__)
            return ["module", module.__name__]
        file = getattr(module, "__file__", None)
        code: Any = None
        if file is not None:
            if not file.endswith(".py"):
                raise Unaddressable(f"{file} is compiled; it has no source")
            tree = _source(file).tree
            imports = self._imports([tree], module.__package__ or "")
            code = [syntax.tree_digest(tree), imports]
        held = {}
        for name, value in sorted(vars(module).items()):
            if not (name.startswith("__") and name.endswith("__")):
                held[name] = self._if_it_can(value)
        return ["module", code, held]

    def _if_it_can(self, value: Any) -> Any:
        """The content of a module's global; of one that cannot be followed the tree speaks."""
        before = dict(self.met)
        try:
            return self.content(value)
        except Unaddressable:
            self.met = before
            return ["see the tree"]


def _is_generated(function: Any) -> bool:
    """Whether a method was made from a text, as those of dataclasses are, wrapped or not."""
    code = getattr(function, "__code__", None)
    if code is None or (not code.co_filename.startswith("<") and is_theirs(code.co_filename)):
        return False
    if code.co_filename.startswith("<"):
        return True
    held = inspect.getclosurevars(function).nonlocals.values()
    return any(map(_is_generated, held))


def _is_record(cls: type) -> bool:
    """Whether Python itself made the class's methods from a text: a named tuple or a dataclass."""
    return hasattr(cls, "_fields") or dataclasses.is_dataclass(cls)


def _their_module_named(name: str) -> types.ModuleType | None:
    """The module of that name where it is theirs; None where it is not, or there is none."""
    if name not in sys.modules:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return None
        places = (
            [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or ())]
        )
        if not any(
            place and place not in ("built-in", "frozen") and is_theirs(place) for place in places
        ):
            return None
        importlib.import_module(name)
    module = sys.modules[name]
    return module if is_their_module(module) else None


def _nodes_of(function: types.FunctionType) -> list[Any]:
    """A function's nodes in its source; several where lambdas share a line without positions."""
    code = function.__code__
    nodes = _source(code.co_filename).functions.get((code.co_firstlineno, code.co_name), [])
    if len(nodes) < 2:
        return nodes
    places = [
        ((line, column), (end, end_column))
        for line, end, column, end_column in code.co_positions()
        if None not in (line, end, column, end_column) and (column, end_column) != (0, 0)
    ]
    holding = [
        node
        for node in nodes
        if all(
            (node.lineno, node.col_offset) <= start
            and stop <= (node.end_lineno, node.end_col_offset)
            for start, stop in places
        )
    ]
    smallest = min(holding, key=_extent, default=None)
    return nodes if smallest is None else [smallest]


def _extent(node: Any) -> tuple[int, int]:
    return (node.end_lineno - node.lineno, node.end_col_offset - node.col_offset)


def _class_nodes(
    cls: type, module: types.ModuleType | None
) -> tuple[list[ast.ClassDef], Mapping[str, Any]]:
    """(a class's nodes in its source, globals around): several if a name occurs twice, or none."""
    file = getattr(module, "__file__", None)
    if module is None or file is None or not file.endswith(".py"):
        return [], {}
    return list(_source(file).classes.get(cls.__qualname__, [])), vars(module)
