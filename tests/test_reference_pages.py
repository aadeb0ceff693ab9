"""The reference of the site is made from the code, and nothing public is missing in it."""

import pytest

from experiments.pages import reference
from jaxreg.cli.main import COMMANDS
from jaxreg.study.design import config_fields


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
