"""Whatever text a person's own files bring along is shown as it is written: in report.html,
ledger.html, TensorBoard's folders and the status.

A script is planted in every place that takes words; the pages come from real runs and are opened in
a real browser.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxreg.cli.live_display import Silent
from jaxreg.cli.main import main
from jaxreg.study.claims import ledger, page
from jaxreg.study.claims.design import load_folder
from jaxreg.study.engine import off_values
from tests.helpers import chromium, tiny
from tests.helpers import made_up_claims as made_up
from tests.helpers.place import CACHE

ROOT = Path(__file__).parents[3]
browser_needed = pytest.mark.skipif(
    chromium.why_missing() is not None, reason=f"needs a browser; {chromium.why_missing()}"
)

TEXT = '</script><script>window.owned=1</script><img src=x onerror="window.owned=2">'
"""Where anything may stand."""
NAME = "<img src=x onerror=window['owned']=3>"
"""Where neither comma nor slash nor dot may."""
WORD = "<svg/onload=window.owned=4>"
"""A word of a sentence: no spaces."""
STEERS = "\x1b]0;owned\x07\x1b[2J"
"""Terminals: sets the title, clears the screen."""

PLACES = {
    'tokens=("<pad>", "0", "1")': f'tokens=("<pad>", {WORD!r}, "1")',
    'outputs=("even", "odd")': f"outputs=({TEXT!r}, {NAME!r})",
    'templates=("bits",)': f"templates=({TEXT!r},)",
    'View("train", "training rows", "train")': f'View("train", {TEXT!r}, "train")',
    'View("validation", "new rows", "validation")': f'View("validation", {TEXT!r}, "validation")',
    'what = "squared norm of the logits"': f"what = {TEXT!r}",
    'source = "mine"': f"source = {TEXT!r}",
    'penalties={"logit_norm": LogitNorm}': f"penalties={{{NAME!r}: LogitNorm}}",
    'question="Does keeping logits small help to learn parity?"': f"question={TEXT + STEERS!r}",
    'prediction="Dropout of features helps a little, the penalty does not."': (
        f"prediction={TEXT!r}"
    ),
    '"none": Arm("nothing", predict=0.0)': f'"none": Arm({TEXT!r}, predict=0.0)',
    '"small_logits": Arm("penalty .01", {"loss.logit_norm_strength": 0.01}, predict=0.0)': (
        f"{NAME!r}: Arm({TEXT!r}, {{{f'loss.{NAME}_strength'!r}: 0.01}}, predict=0.0)"
    ),
}
"""What stands in the documentation's own experiment -> what is planted there."""


def planted() -> dict[str, str]:
    """The files of the documentation's example, with a script in each place that takes words, and
    two arms fewer.
    """
    text = (ROOT / "docs" / "own-experiment.md").read_text()
    files = dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", text, re.DOTALL))
    source = re.sub(r' +"(dropout|transformer)": Arm\(.*\n', "", files["own/parity.py"])
    for old, new in PLACES.items():
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return files | {"own/parity.py": source}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The directory of a real comparison of the planted files."""
    folder = tmp_path_factory.mktemp("planted")
    for name, text in planted().items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))
    } | {
        "JAXREG_CACHE": str(CACHE / "places"),
        "JAXREG_DATA": str(folder / "data"),
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    words = (
        "compare",
        "own/parity.py",
        "--workdir=run",
        "--devices=1",
        "--seeds=2",
        "--config.train.num_steps=20",
        "--config.eval.every_steps=10",
        "--config.optim.warmup_steps=2",
    )
    done = subprocess.run(
        [sys.executable, "-m", "jaxreg.cli.main", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def browser():
    with chromium.Browser() as running:
        yield running


def opened(browser, path: Path):
    """The page, with all that can be opened open, after what an event handler could have done."""
    browser.errors()
    browser.open(path)
    browser.run(
        "document.querySelectorAll('details').forEach((part) => { part.open = true;"
        " part.dispatchEvent(new Event('toggle')); })"
    )
    browser.run(
        "document.querySelectorAll('[data-tip]').forEach((part) => part.dispatchEvent(new"
        " PointerEvent('pointerover', {bubbles: true})))"
    )
    return browser


def tip(browser, words: str) -> str:
    """What the tooltip says of the element whose tip has these words in it."""
    browser.run(
        "[...document.querySelectorAll('[data-tip]')].find((part) =>"
        " part.dataset.tip.includes(arguments[0])).dispatchEvent(new PointerEvent('pointerover',"
        " {bubbles: true}))",
        words,
    )
    return browser.text("#tooltip")


def harmless(browser, scripts: int) -> None:
    """Asserts that no script of a text ran, and that none became an element or was stopped only by
    the page's security policy.
    """
    assert browser.run("return window.owned === undefined")
    assert browser.count("script") == scripts and browser.count("img, iframe, object, embed") == 0
    assert (
        browser.run(
            "return [...document.querySelectorAll('*')].filter((e) => [...e.attributes].some((a) =>"
            " a.name.startsWith('on'))).length"
        )
        == 0
    )
    assert browser.errors() == [], "the page's policy had nothing to refuse"


def seen(browser) -> str:
    """All text of the page, without that of its own scripts and style sheets."""
    browser.run(
        "window.copied = document.body.cloneNode(true); copied.querySelectorAll('script,"
        " style').forEach((e) => e.remove())"
    )
    return browser.run("return copied.textContent")


@browser_needed
def test_the_browser_would_have_run_it(browser, tmp_path):
    """Without escaping, each of the three is a script: what other tests look for does happen."""
    for text, value in ((TEXT, 1), (NAME, 3), (WORD, 4)):
        path = tmp_path / "bare.html"
        path.write_text(
            "<!doctype html><script>window.none ="
            f" 1</script><body>{text.replace('window.owned=2', '')}"
        )
        browser.open(path)
        browser._do("execute/async", {"script": "setTimeout(arguments[0], 200)", "args": []})
        assert browser.run("return window.owned") == value, text


@pytest.mark.system
@browser_needed
def test_the_report_shows_it_and_runs_nothing(run, browser):
    shown = opened(browser, run / "report.html")
    assert tip(shown, f"loss.{NAME}_strength") == f"loss.{NAME}_strength = 0.01"
    harmless(shown, scripts=2)
    assert shown.text("h1").startswith(TEXT)
    text = seen(shown)
    for what in (TEXT, NAME, WORD):
        assert what in text, what
    assert text.count(TEXT) >= 6 and shown.run("return document.title") == "parity"


@pytest.mark.system
def test_the_report_s_source_has_it_in_no_form_that_html_reads(run):
    text = (run / "report.html").read_text()
    assert text.count("<script") == text.count("</script>") == 2
    for what in ("<img", "<svg/onload"):
        assert what not in text


@pytest.mark.system
def test_tensorboard_s_folders_are_plain(run):
    folders = sorted(
        path.relative_to(run / "tensorboard").as_posix()
        for path in (run / "tensorboard").rglob("*")
        if path.is_dir()
    )
    assert [name for name in folders if re.search(r"[<>'\"]", name)] == [] and len(
        folders
    ) == 2 * 3 + 1, folders
    assert sum("%3Cimg" in name for name in folders) == 3


@pytest.mark.system
def test_the_status_writes_control_characters_out(run, capsys):
    capsys.readouterr()
    assert main(["status", str(run)]) == 0
    out = capsys.readouterr().out
    assert (
        TEXT in out
        and NAME in out
        and out.replace("\n", "").isprintable()
        and r"\x1b]0;owned\x07\x1b[2J" in out
    )


BODY = (
    f'id="C1", quote={TEXT!r}, hypothesis={TEXT!r}, refuted_if={TEXT!r}, published={TEXT!r},'
    f' prediction={TEXT!r}, regime={TEXT!r}, scope={TEXT!r}, arms={{"none": ClaimArm({TEXT!r}),'
    f' {NAME!r}: ClaimArm({TEXT!r}, {{"model.attention_dropout_rate": 0.3}})}},'
    f' questions=(Question({NAME!r}, {{{NAME!r}: 1, "none": -1}}, accuracy("recombination"), 0.05,'
    f' 5),), preconditions=(Precondition({TEXT!r}, "none", accuracy("train"), at_least=0.1),),'
    " seeds=tuple(range(200, 208))"
)
DOCUMENTS = f'id="F1", findings=(Finding({TEXT!r}, "supported", {TEXT!r}),)'
UNTESTABLE = f'id="N1", untestable={TEXT!r}'


@pytest.fixture
def ledger_run(tmp_path, monkeypatch) -> Path:
    """The directory of a real ledger of planted claims, on the tiny study."""
    tiny.use_compiled(monkeypatch)
    monkeypatch.setenv("JAXREG_DATA", str(tiny.data_dir()))
    monkeypatch.setattr(
        off_values, "off_value", lambda *_: {"passed": True, "what": TEXT, "detail": TEXT}
    )
    monkeypatch.setattr(sys, "argv", ["jaxreg", "claims", TEXT])
    for name, body in (("C1", BODY), ("F1", DOCUMENTS), ("N1", UNTESTABLE)):
        made_up.write_claim(tmp_path, body, name)
    designs = load_folder(tmp_path / "claims", quick=False)
    assert (
        ledger.run(
            designs, ["C1", "F1", "N1"], tmp_path / "run", quick=False, minutes=60, display=Silent()
        )
        == 0
    )
    return tmp_path / "run"


@browser_needed
def test_the_ledger_shows_it_and_runs_nothing(ledger_run, browser):
    shown = opened(browser, ledger_run / "ledger.html")
    harmless(shown, scripts=2)
    text = seen(shown)
    assert text.count(TEXT) >= 8 and NAME in text


@browser_needed
def test_a_penalty_s_name_in_the_ledger_stays_text(ledger_run, browser, tmp_path):
    told = page.read(ledger_run / "ledger.json")
    told["claims"][0]["arms"][1]["diff"] = {f"loss.{NAME}_strength": 0.5}
    (tmp_path / "ledger.html").write_text(page.render(told, TEXT))
    shown = opened(browser, tmp_path / "ledger.html")
    harmless(shown, scripts=2)
    assert f"loss.{NAME}_strength" in seen(shown)
