"""A person's own Python files, loaded by path.

While a file is loaded and called, it may import

- what lies beside it, as a script may; modules of the same name from other folders are set aside
  meanwhile and do not get in the way;
- `configs.base` and its neighbors, from the nearest `configs/` above the file, in the working
  directory, or where jaxreg keeps its own; another package `configs` on the path does not matter.

What was imported from beside the file is gone again afterwards, unless `keep` is asked for it:
own pieces may import inside their functions, long after the file was loaded.
"""

import contextlib
import difflib
import functools
import hashlib
import importlib.machinery
import importlib.util
import sys
import sysconfig
import traceback
import types
from collections.abc import Container, Iterator
from pathlib import Path

from jaxreg.errors import UserErrors, is_interrupt
from jaxreg.study.design import recipes

_imported: dict[Path, dict[str, types.ModuleType]] = {}
"""File -> the module that it is, and those from beside it that it imported, by name."""

_kept: dict[Path, dict[str, types.ModuleType]] = {}
"""The same, of the files whose modules stay importable."""


def call(path: str | Path, function: str, *, instead: dict[str, str]) -> object:
    """What `function()` of the Python file at `path` returns.

    Args:
      path: the file.
      function: the function's name, such as "get_config".
      instead: function name -> hint, for files of another kind that are given by mistake.

    Raises:
      UserErrors: no such file, not Python, no such function, or it fails, by `sys.exit` too; one
        line that names the place.
      KeyboardInterrupt: Ctrl-C.
    """
    path = Path(path).expanduser()
    check_exists(path)
    with _importable(path):
        try:
            found = vars(_loaded(path))
            if not callable(found.get(function)):
                hints = "".join(f"; {hint}" for other, hint in instead.items() if other in found)
                raise UserErrors([f"{path}: has no function {function}(){hints}"])
            return found[function]()
        except UserErrors:
            raise
        except BaseException as error:  # any exception of a person's file is a mistake in it
            if is_interrupt(error):
                raise
            text = f"{type(error).__name__}: {error}"
            raise UserErrors([f"{path}{_line_of(error, path)}: {text}"]) from error


def keep(path: Path) -> None:
    """Leaves a loaded file, and what it imported from beside it, importable in this process.

    Raises:
      UserErrors: another file that is kept has imported a module of the same name from another
        folder.
    """
    path = path.expanduser().resolve()
    mine = _imported.get(path, {})
    for other, theirs in _kept.items():
        for name in sorted(set(mine) & set(theirs)) if other.parent != path.parent else ():
            raise UserErrors(
                [
                    f"{path}: imports {name} from its folder, and {other} another {name} from its"
                    " own; rename one, or use them in two processes"
                ]
            )
    _kept[path] = mine
    sys.modules.update(mine)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))


def drop(path: Path) -> None:
    """Undoes `keep` for a file; its neighbors in the same folder stay importable."""
    path = path.expanduser().resolve()
    for name, module in _kept.pop(path, {}).items():
        if sys.modules.get(name) is module:
            del sys.modules[name]
    alone = all(other.parent != path.parent for other in _kept)
    if alone and str(path.parent) in sys.path:
        sys.path.remove(str(path.parent))


def drop_all() -> None:
    """Undoes every `keep`."""
    for path in list(_kept):
        drop(path)


def is_kept(path: Path) -> bool:
    """Whether `keep` was asked for the file."""
    return path.expanduser().resolve() in _kept


def kept_files() -> list[str]:
    """The paths of all files whose modules are kept: where a traceback is the person's own."""
    modules = (module for found in _kept.values() for module in found.values())
    files = (getattr(module, "__file__", None) for module in modules)
    return sorted({str(Path(file).resolve()) for file in files if file is not None})


@functools.cache
def is_theirs(file: str) -> bool:
    """Whether a source file belongs to a person: to no library and not to jaxreg."""
    if file.startswith("<frozen"):
        return False
    path = Path(file).resolve()
    libraries = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    return not (
        {"site-packages", "dist-packages"} & set(path.parts)
        or any(path.is_relative_to(each) for each in (*libraries, Path(__file__).parents[2]))
    )


def is_their_module(module: types.ModuleType | None) -> bool:
    """Whether a module belongs to a person; one that is gone from `sys.modules` does."""
    if module is None:
        return True
    file = getattr(module, "__file__", None)
    if file is None:  # built into Python, or a folder without `__init__.py`
        return any(is_theirs(place) for place in getattr(module, "__path__", ()))
    return is_theirs(file)


def _module_name(path: Path) -> str:
    folder = hashlib.sha256(str(path.resolve().parent).encode()).hexdigest()[:8]
    return f"_jaxreg_file_{path.stem}_{folder}"


def _loaded(path: Path) -> types.ModuleType:
    """The file as a module, executed again."""
    # tracebacks name it wherever they are read
    name, file = _module_name(path), str(path.absolute())
    loader = importlib.machinery.SourceFileLoader(name, file)
    spec = importlib.machinery.ModuleSpec(name, loader, origin=file)
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses of the file look their module up
    loader.exec_module(module)
    return module


def _forget_builders(modules: Container[str]) -> None:
    """Removes these modules' builders from TFDS, which refuses a name twice (file reloads)."""
    registered = sys.modules.get("tensorflow_datasets.core.registered")
    known = {} if registered is None else vars(registered).get("_DATASET_REGISTRY", {})
    for name in [name for name, builder in known.items() if builder.__module__ in modules]:
        del known[name]


def check_exists(path: Path) -> None:
    """Raises UserErrors, one line, where there is no Python file at the path."""
    if path.is_dir():
        raise UserErrors([f"{path}: is a directory; give a .py file"])
    if not path.is_file():
        here = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, here, n=1, cutoff=0.6)
        hint = f"; did you mean {path.parent / close[0]}?" if close else ""
        raise UserErrors([f"{path}: no such file{hint}"])
    if path.suffix != ".py":
        raise UserErrors([f"{path}: is not a .py file"])


def _line_of(error: BaseException, path: Path) -> str:
    """', line 12': the last line of the person's code in the traceback, and another file's name."""
    if isinstance(error, SyntaxError):
        if error.filename == str(path.absolute()):
            return f", line {error.lineno}"
        return f", in {error.filename} line {error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and is_theirs(frame.filename)
    ]
    if not frames:
        return ""
    last = frames[-1]
    here = Path(last.filename).resolve() == path.resolve()
    return f", line {last.lineno}" if here else f", in {last.filename} line {last.lineno}"


# --- what a file may import


@contextlib.contextmanager
def _importable(path: Path) -> Iterator[None]:
    """The imports of a file, see the module's docstring."""
    file = path.resolve()
    folder = file.parent
    beside = {each.stem if each.suffix == ".py" else each.name for each in folder.iterdir()}
    aside = {
        name: module
        for name, module in sys.modules.items()
        if name.split(".")[0] in beside | {"configs"} and is_their_module(module)
    }
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a .pyc stores whole seconds
    for name in aside:
        del sys.modules[name]
    before = set(sys.modules)
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    _bind_configs(file)
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(str(folder))
        new = {name: sys.modules[name] for name in set(sys.modules) - before}
        own = {name: module for name, module in new.items() if _lies_in(module, folder)}
        _imported[file] = own
        _forget_builders(own)
        for name in new:
            if name in own or name.split(".")[0] == "configs":
                del sys.modules[name]
        sys.modules.update(aside)


def _lies_in(module: types.ModuleType, folder: Path) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return is_their_module(module) and any(
        Path(place).resolve().is_relative_to(folder) for place in places if place is not None
    )


def _bind_configs(file: Path) -> None:
    """Binds `configs` to the nearest folder of that name with a `base.py`, before the path."""
    above = [*file.parents, Path.cwd(), recipes.folder("configs").parent]
    root = next((place for place in above if (place / "configs" / "base.py").is_file()), None)
    if root is not None:
        spec = importlib.machinery.ModuleSpec("configs", None, is_package=True)
        spec.submodule_search_locations = [str(root / "configs")]
        sys.modules["configs"] = importlib.util.module_from_spec(spec)
