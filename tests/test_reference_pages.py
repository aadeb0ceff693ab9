"""The reference of the site is made from the code, and nothing public is missing in it."""

import dataclasses
import importlib
import re
import types
from pathlib import Path

import pytest

from experiments.pages import reference
from jaxreg.cli.main import COMMANDS
from jaxreg.study.design import config_fields
from jaxreg.study.design.regularizers import REGULARIZERS

ROOT = Path(__file__).parents[1]
IMPORTS = re.compile(r"^ *from (jaxreg[\w.]*) import \(?([\w, \n#]+?)\)?$", re.M)


@pytest.mark.parametrize("page", reference.API)
def test_every_public_name_is_on_its_page(page):
    module = reference.API[page]
    text = reference.api_page(module)
    names = reference.public_names(module)
    assert names and all(f":: {module}.{name}\n" in text for name in names)


def test_a_public_name_without_a_docstring_is_an_error(monkeypatch):
    from jaxreg import optim

    monkeypatch.setattr(optim.averaged, "__doc__", None)
    with pytest.raises(ValueError, match=r"jaxreg\.optim\.averaged has no docstring"):
        reference.api_page("jaxreg.optim")


def test_a_docstring_that_a_dataclass_makes_by_itself_is_none():
    @dataclasses.dataclass
    class Made:
        x: int

    @dataclasses.dataclass
    class Written:
        """A thing."""

        x: int

    assert Made.__doc__ and not reference.has_docstring(Made)
    assert reference.has_docstring(Written) and reference.has_docstring(reference.table)


def test_public_methods_are_listed_and_need_docstrings(monkeypatch):
    from jaxreg.study.commands.judge import Judgement

    title, names = reference.OTHERS["results"]
    page = reference.other_page(title, names)
    assert "markdown" in reference.methods(Judgement)
    [line] = [x for x in page.split("Judgement\n")[1].splitlines()[:1] if ":members:" in x]
    assert "markdown" in line and "save_page" in line
    monkeypatch.setattr(Judgement.markdown, "__doc__", None)
    with pytest.raises(ValueError, match=r"Judgement\.markdown has no docstring"):
        reference.other_page(title, names)


def test_what_the_tutorials_import_is_in_the_reference():
    """Classes and functions of jaxreg that a page's code imports by name."""
    text = "\n".join([*reference.pages().values()])
    for path in sorted((ROOT / "docs").glob("**/*.md")):
        if path.parent.name == "reference":
            continue
        for module, imported in IMPORTS.findall(path.read_text(encoding="utf-8")):
            for name in re.findall(r"\w+", imported.partition("#")[0]):
                value = getattr(importlib.import_module(module), name, None)
                if callable(value) and not isinstance(value, types.ModuleType):
                    assert re.search(rf":: jaxreg\S*\.{name}\n", text), f"{path.name}: {name}"


def test_every_regularizer_is_in_the_table_with_its_field_and_off_value():
    page = reference.regularizers_page()
    for name, each in REGULARIZERS.items():
        off = "" if each.off is None else f"`{each.off:g}`"
        assert f"| {name} | `{each.field}` | {off} | " in page


def test_every_command_has_its_help_with_an_example():
    page = reference.commands_page()
    for name, (usage, _) in COMMANDS.items():
        section = page.split(f"## jaxreg {name}\n")[1].split("\n## ")[0]
        assert usage.examples and all(line in section for line in usage.examples)


def test_every_config_field_has_its_default_its_range_and_a_meaning():
    page = reference.config_page()
    for name, field in config_fields.FIELDS.items():
        if name == "seed" or name.startswith("data."):
            continue
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        cells = [cell.strip() for cell in row.replace("\\|", "\0").strip("|").split("|")]
        assert len(cells) == 4 and all(cells), row
        assert cells[2].replace("\0", "|") == str(field)


def test_a_comment_is_the_one_behind_or_above():
    text = """
config.part = ConfigDict(
    {
        "behind": 1,  # behind it
        # above it,
        # in two lines
        "above": 2,
        "none": 3,
    }
)
"""
    assert reference.comments(text) == {
        "part.behind": "behind it",
        "part.above": "above it, in two lines",
        "part.none": "",
    }
