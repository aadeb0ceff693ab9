"""A person's own Python files, loaded by path."""

import contextlib
import difflib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from jaxreg.errors import UserErrors


def call(path: str | Path, function: str, *, instead: dict[str, str]) -> object:
    """What `function()` of the Python file at `path` returns. The file may import `configs.base`.

    Args:
      path: the file.
      function: the function's name, such as "get_config".
      instead: function name -> hint, for files of another kind that are given by mistake.

    Raises:
      UserErrors: no such file, not Python, no such function, or it fails; one line that names the
        place.
    """
    path = Path(path).expanduser()
    _check_exists(path)
    with _configs_importable(path):
        try:
            spec = importlib.util.spec_from_file_location(f"_jaxreg_file_{path.stem}", path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # dataclasses of the file look their module up
            spec.loader.exec_module(module)
            found = vars(module)
            if not callable(found.get(function)):
                hints = [hint for other, hint in instead.items() if other in found]
                raise UserErrors(
                    [
                        f"{path}: has no function"
                        f" {function}(){''.join('; ' + hint for hint in hints)}"
                    ]
                )
            return found[function]()
        except UserErrors:
            raise
        except Exception as error:  # the file is the user's: whatever it raises is a mistake in it
            raise UserErrors(
                [f"{path}{_line_of(error, path)}: {type(error).__name__}: {error}"]
            ) from error
        finally:
            sys.modules.pop(f"_jaxreg_file_{path.stem}", None)
            _forget_builders(f"_jaxreg_file_{path.stem}")


def _forget_builders(module: str):
    """TFDS refuses a second builder of a name, and so a file that is loaded twice; those of the
    file are struck off its list.
    """
    registered = sys.modules.get("tensorflow_datasets.core.registered")
    known = {} if registered is None else vars(registered).get("_DATASET_REGISTRY", {})
    for name in [name for name, builder in known.items() if builder.__module__ == module]:
        del known[name]


def _check_exists(path: Path):
    if path.is_dir():
        raise UserErrors([f"{path}: is a directory; give a .py file"])
    if not path.is_file():
        here = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, here, n=1, cutoff=0.6)
        hint = f"; did you mean {path.parent / close[0]}?" if close else ""
        raise UserErrors([f"{path}: no such file{hint}"])
    if path.suffix != ".py":
        raise UserErrors([f"{path}: is not a .py file"])


def _line_of(error: Exception, path: Path) -> str:
    """', line 12': the last line of the user's own file that the error passed through."""
    if isinstance(error, SyntaxError):
        return (
            f", line {error.lineno}"
            if error.filename == str(path)
            else f", in {error.filename} line {error.lineno}"
        )
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    return f", line {lines[-1]}" if lines else ""


@contextlib.contextmanager
def _configs_importable(path: Path) -> Iterator[None]:
    """Puts the directory that holds `configs/` in front: above the file, else the working
    directory, else where jaxreg was cloned.

    `configs` modules of another project that are already loaded are set aside meanwhile.
    """
    above = [*path.resolve().parents, Path.cwd(), Path(__file__).parents[3]]
    root = next((str(p) for p in above if (p / "configs" / "base.py").is_file()), str(Path.cwd()))
    others = {
        name: m
        for name, m in sys.modules.items()
        if name == "configs" or name.startswith("configs.")
    }
    for name in others:
        del sys.modules[name]
    importlib.invalidate_caches()
    sys.path.insert(0, root)
    try:
        yield
    finally:
        sys.path.remove(root)
        for name in [
            name for name in sys.modules if name == "configs" or name.startswith("configs.")
        ]:
            del sys.modules[name]
        sys.modules.update(others)
