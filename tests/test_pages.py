"""The pages are the truth: their commands and examples run, their figures are the committed
results, and their links lead somewhere.

docs/judge.md, docs/audit.md and the page on attention have tests of their own.
"""

import functools
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from experiments.pages import figures
from tests.helpers import pages

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = ("get-started", "running", "essay", "monitoring", "cloud", "short-data", "processes")
RUN = ("README.md", *(f"docs/{name}.md" for name in PAGES))
READMES = (ROOT / "README.md", *sorted(ROOT.glob("experiments/**/README.md")))
READMES += tuple(sorted(ROOT.glob("tests/**/README.md")))
MAIN = "jaxreg compare experiments/cat_sat.py --workdir=runs/cat_sat"
"""What the fixture `small_run` runs, at a small size."""
FOUND = {line for page in RUN for line in pages.commands((ROOT / page).read_text())}
COMMANDS = sorted(FOUND - {MAIN})
SMALL = {
    "train": [
        "--config.train.num_steps=20",
        "--config.optim.warmup_steps=5",
        "--config.eval.every_steps=10",
        "--config.data.num_eval=64",
    ],
    "compare": [
        "--config.train.num_steps=20",
        "--config.optim.warmup_steps=5",
        "--config.model.width=8",
        "--config.model.num_heads=2",
        "--config.model.num_layers=1",
    ],
}
"""What makes a command short that is not short already."""


def test_figures_are_the_committed_results():
    shown = set()
    for path in figures.PAGES:
        page = path.read_text()
        assert page == figures.filled(page), (
            f"python -m experiments.pages.figures writes {path.name}"
        )
        assert page.count("<!-- generated: ") == len(figures.names(page)), path.name
        shown.update(figures.names(page))
    assert shown == set(figures.BLOCKS)


def test_a_wrong_figure_is_written_anew():
    wrong = README.replace("| both | 8", "| both | 7")
    assert wrong != README and figures.filled(wrong) == README


@pytest.mark.parametrize(
    "path",
    [ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("**/*.md")), *READMES],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_links_lead_somewhere(path):
    assert pages.dead_links(path) == []


def test_a_dead_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A head\n[a](none.md) [b](#a-head) [c](#no-head) [d](page.md#a-head) [e](https://jax.dev)"
    )
    assert pages.dead_links(page) == ["none.md", "#no-head"]


@pytest.mark.short_cases("list", "plan")
@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: shlex.split(line)[1])
def test_every_command_runs(line, jaxreg_command, workplace, request):
    words = shlex.split(line)[1:]
    [own] = [block for block in pages.blocks(README, "python") if "get_experiment" in block]
    (workplace / "mine.py").write_text(own)
    if "runs/cat_sat" in words or "runs/cat_sat/results.json" in words:
        request.getfixturevalue("small_run")
    done = jaxreg_command(*words, *SMALL.get(words[0], []))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


def test_the_main_command_is_the_one_of_the_small_run():
    assert MAIN in FOUND and MAIN in README
    source = (ROOT / "tests" / "conftest.py").read_text()
    assert '"compare", "experiments/cat_sat.py", "--workdir=runs/cat_sat"' in source


def test_the_page_on_modules_runs():
    linen, nnx = pages.blocks((ROOT / "docs" / "modules.md").read_text(), "python")
    names: dict = {}
    exec(compile(linen, "modules.md", "exec"), names)
    assert names["y"].shape == names["x"].shape
    assert [kept.shape for kept in names["kept"]] == [(1, 1, 6, 6)] * 2
    exec(compile(nnx, "modules.md", "exec"), names)
    model, x = names["model"], jax.random.normal(jax.random.key(0), names["x"].shape)
    assert not (model(x) == model(x)).all(), "it drops, by another key in each call"
    model.eval()
    assert (model(x) == model(x)).all()


def test_the_page_on_running_loads_a_trained_model(
    jaxreg_command, workplace, data_dir, monkeypatch, capsys
):
    sizes = ["--config.model.width=8", "--config.model.num_heads=2", "--config.model.num_layers=1"]
    words = ["--config=language_model", "--workdir=runs/lm", "--config.train.num_steps=31", *sizes]
    done = jaxreg_command("train", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("JAXREG_DATA", str(data_dir))
    [block] = pages.blocks((ROOT / "docs" / "running.md").read_text(), "python")
    names: dict = {}
    exec(compile(block, "running.md", "exec"), names)
    assert names["logits"].shape == (16, 64, 258) and names["drawn"].shape == (1, 100)
    first, *probable, _ = capsys.readouterr().out.splitlines()[:7]
    assert first == "('run',) (0,)"
    shares = [float(line.rpartition(" ")[2]) for line in probable]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) < 1
    assert float(names["next_token"].sum()) == pytest.approx(1, abs=1e-5)


def test_install_lines_are_right():
    bounds = re.search(r'"jax(>=[^"]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert (ROOT / "docs" / "running.md").read_text().count(bounds) == 2


PROSE = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    if page.parent.name != "reference" and page.name not in ("changelog.md", "glossary.md")
]


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_are_as_they_are_typed_now(path):
    """Of what is too long to run; what is short runs in the tests above and of each page."""
    assert pages.wrong_commands(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_names_of_jaxreg_are_there(path):
    assert pages.unknown_names(path.read_text(encoding="utf-8")) == []


def test_a_name_that_is_nowhere_is_found():
    page = "`jaxreg.optim.make_it(...)`, `jaxreg.optim.optimizer`, `jaxreg.no.such`, jaxreg.none"
    assert pages.unknown_names(page) == ["jaxreg.optim.make_it", "jaxreg.no.such"]


def test_a_wrong_command_is_found():
    page = "```bash\njaxreg plan --sdd=1 x.py\njaxreg compare x.py --workdir=r\n```\n"
    page += "\n    jaxreg train --config=c.py --config.model.no=1 --workdir=r\n\n    jaxreg fly\n"
    page += "\n    python -m jaxreg.nothing\n    A=1 python experiments/none.py --x=1\n"
    wrong = pages.wrong_commands(page)
    shown = ("jaxreg plan --sdd", "jaxreg train", "jaxreg fly", "python -m", "A=1 python")
    assert len(wrong) == len(shown)
    assert all(line.startswith(start) for line, start in zip(wrong, shown, strict=True)), wrong


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.stem)
def test_sentences_are_short(path):
    found = pages.sentences(path.read_text(encoding="utf-8"))
    lengths = sorted(map(pages.words, found))
    assert lengths, "a page needs some prose"
    assert statistics.median(lengths) <= 15
    assert lengths[int(0.9 * (len(lengths) - 1))] <= 25, max(found, key=pages.words)
    assert lengths[-1] <= 45, max(found, key=pages.words)


@functools.cache
def _syllables() -> Callable[[str], int]:
    """Syllables of an English word, by where it may be hyphenated: a few too few."""
    pyphen = pytest.importorskip("pyphen", reason="Pyphen counts syllables: .[test] has it")
    hyphens = pyphen.Pyphen(lang="en_US")
    return lambda word: len(hyphens.positions(word)) + 1


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.stem)
def test_words_are_short(path):
    found = pages.sentences(path.read_text(encoding="utf-8"))
    assert pages.reading_ease(found, _syllables()) > 70


def test_long_words_are_hard_to_read():
    hard = ["Regularization methodologies necessitate computationally intensive experimentation."]
    easy = ["The cat sat on the mat.", "A dog ran."]
    hard_one, easy_one = (pages.reading_ease(each, _syllables()) for each in (hard, easy))
    assert hard_one < 0 and easy_one > 110
    counted = pages.reading_ease(["One two three four."], lambda word: 2)
    assert counted == pytest.approx(206.835 - 1.015 * 4 - 84.6 * 2)


def test_a_long_sentence_is_counted_and_code_is_not():
    text = "# A head\n\nOne two three. Four `five()` six seven; nine ten more.\n\n| a | b |\n"
    found = pages.sentences(f"{text}\n```python\nx = 1 2 3\n```\n\n- A [list of](x.md) words\n")
    assert [pages.words(each) for each in found] == [3, 4, 3, 4]


def test_no_word_is_misspelt():
    pytest.importorskip("codespell_lib", reason="codespell looks for misspellings: .[test] has it")
    files = ["CHANGELOG.md", "docs", "jaxreg", "configs", "experiments", *map(str, READMES)]
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib", *files], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


WORDS_OF_OURS = ("arm", "member", "margin", "view", "off value", "verdict", "headline", "look")


@pytest.mark.parametrize("word", WORDS_OF_OURS)
def test_the_glossary_has_the_words_of_the_pages(word):
    rows = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs" / "glossary.md").read_text(), re.M)
    assert any(re.fullmatch(rf"{word}( \(.*\))?", row) for row in rows), word
