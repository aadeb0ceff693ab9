"""What it takes to add something: a penalty is one class and one table line, a data set one file
and one line. Counted in the sources.
"""

import ast
import re
from pathlib import Path

import pytest

from jaxreg.data import SOURCES
from jaxreg.reg.augmentations import AUGMENTATIONS
from jaxreg.reg.penalties import PENALTIES

ROOT = Path(__file__).parents[1]
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for folder in ("jaxreg", "configs")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def lines_with(pattern: str) -> list[str]:
    """ "file: line" of all code lines that match; docstrings do not count."""
    found = []
    for name, text in TEXTS.items():
        tree = ast.parse(text)
        docs = {
            line
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node)
            for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
        }
        found += [
            f"{name}: {line.strip()}"
            for number, line in enumerate(text.splitlines(), 1)
            if number not in docs and re.search(pattern, line)
        ]
    return found


@pytest.mark.short_cases()
@pytest.mark.parametrize("name", [name for name in PENALTIES if name != "label_smoothing"])
def test_a_penalty_is_one_class_and_one_table_line(name):
    cls = PENALTIES[name].__name__
    assert lines_with(rf"\b{cls}\b") == [
        f"jaxreg/reg/penalties.py: class {cls}(Penalty):",
        f'jaxreg/reg/penalties.py: "{name}": {cls},',
    ]
    assert lines_with(rf'[".]{name}(_strength)?\b') == [
        f'jaxreg/reg/penalties.py: "{name}": {cls},'
    ], "nothing else knows its name"


def test_label_smoothing_is_on_in_the_base_config_besides():
    found = lines_with(r"loss\.label_smoothing_strength")
    mentions = [line for line in found if not line.startswith("configs/")]  # recipes may set it
    assert len(mentions) == 1 and mentions[0].startswith(
        "jaxreg/study/design/base_config.py: config.loss.label_smoothing_strength = 0.0"
    )


@pytest.mark.short_cases()
@pytest.mark.parametrize("field", AUGMENTATIONS)
def test_an_augmentation_is_one_class_and_one_table_line(field):
    cls = AUGMENTATIONS[field].__name__
    assert lines_with(rf'"{field}": {cls},') == [f'jaxreg/reg/augmentations.py: "{field}": {cls},']
    others = [
        line
        for line in lines_with(rf"\b{field}\b")
        if not line.startswith("jaxreg/reg/augmentations.py")
    ]
    assert others == [], "fields, checks and the list follow from the table"


@pytest.mark.short_cases()
@pytest.mark.parametrize("name", SOURCES)
def test_a_data_set_is_one_file_and_one_line(name):
    assert lines_with(rf'"{name}": {name}\.SOURCE') == [
        f'jaxreg/data/__init__.py: "{name}": {name}.SOURCE,'
    ]
    data = ROOT / "jaxreg" / "data"
    assert (data / f"{name}.py").is_file() or (data / name / "source.py").is_file()
