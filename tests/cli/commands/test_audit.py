"""`jaxreg audit`: the table, exit codes, known failures, mistakes, and exceptions of their code."""

import json
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from jaxreg.audit import report, suite
from jaxreg.cli import main as cli
from jaxreg.errors import DONE, INTERRUPTED, MISTAKE, UNMET

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "audit.md"
CHECKS = "--checks=key_matters,evaluation_ignores_key,causal"


@pytest.fixture
def broken(tmp_path) -> str:
    """The file of a subject that drops in evaluation."""
    file = tmp_path / "audit_mine.py"
    file.write_text(
        "from tests.audit import tiny_subject\n\n\n"
        "def get_subject():\n    return tiny_subject.subject(dropout_in_evaluation=True)\n"
    )
    return str(file)


def test_a_failed_check_is_exit_code_3_with_its_fix(broken, capsys):
    assert cli.main(["audit", broken, CHECKS]) == UNMET
    out = capsys.readouterr().out
    assert re.search(r"evaluation_ignores_key +FAILED +8 keys", out)
    assert "1 ok, 1 FAILED, 1 not applicable" in out and "fix: `train=False`" in out


def test_a_known_failure_is_none_and_json_says_why(broken, capsys):
    given = ["--known=evaluation_ignores_key:it is meant", "--known=key_matters:not at all"]
    assert cli.main(["audit", broken, CHECKS, "--json", *given]) == DONE
    out, err = capsys.readouterr()
    found = {finding["check"]: finding for finding in json.loads(out)["findings"]}
    assert found["evaluation_ignores_key"]["status"] == "known"
    assert found["evaluation_ignores_key"]["reason"] == "it is meant"
    assert "--known=key_matters: it did not fail (ok); leave it out" in err


def test_checks_that_lack_something_are_one_line_or_all_rows(tmp_path, capsys):
    file = tmp_path / "audit_mine.py"
    file.write_text("from tests.audit.tiny_subject import get_subject\n")
    assert cli.main(["audit", str(file)]) == DONE
    short = capsys.readouterr().out
    assert cli.main(["audit", str(file), "--all"]) == DONE
    whole = capsys.readouterr().out
    assert "that need more of the subject: `update` (" in short and "--all" not in whole
    for name, given in (("padding_gradients", whole), ("loss_accumulation", whole)):
        assert re.search(rf"{name} +not applicable +needs", given) and name not in short
    assert short.splitlines()[-1].split(" (")[0] == whole.splitlines()[-1].split(" (")[0]


def test_all_mistakes_are_said_at_once(capsys):
    words = "audit no_such_file.py --known=causal --known=caussal:x --checks=dropout --seed=x --jso"
    assert cli.main(words.split()) == MISTAKE
    err = capsys.readouterr().err
    for line in (
        "no_such_file.py: no such file",
        '--known=causal: has no reason; write --known=causal:"..."',
        "caussal: there is no such check or family; did you mean causal?",
        "dropout: there is no such check or family",
        "--seed=x: must be a whole number, 0 or more",
        "--jso: audit has no such flag; did you mean --json?",
    ):
        assert f"jaxreg audit: {line}" in err
    assert "Traceback" not in err


def test_the_list_names_every_check(capsys):
    assert cli.main(["audit", "--list"]) == DONE
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[1] for line in lines if line[0] != " "] == list(suite.all_checks())


@pytest.mark.parametrize(
    ("body", "said", "trace"),
    [
        ("def get_subject():\n    return 3\n", "get_subject() returns a int", ""),
        ("def get_config():\n    pass\n", "has no function get_subject()", ""),
        ("def get_subject():\n    return 1 / 0\n", "line 2: ZeroDivisionError", "return 1 / 0"),
        (
            "import dataclasses\nfrom tests.audit import tiny_subject\n"
            "def loss(*_):\n    return 1 / 0\n"
            "def get_subject():\n"
            "    return dataclasses.replace(tiny_subject.subject(), loss=loss)\n",
            "line 4, in loss: ZeroDivisionError",
            "return 1 / 0",
        ),
    ],
    ids=["no subject", "another file", "raises when loaded", "raises when called"],
)
def test_their_mistakes(tmp_path, capsys, body, said, trace):
    file = tmp_path / "audit_mine.py"
    file.write_text(body)
    assert cli.main(["audit", str(file), CHECKS]) == MISTAKE
    err = capsys.readouterr().err
    *before, last = err.splitlines()
    assert said in last and trace in "\n".join(before)
    assert bool(trace) == ("Traceback" in err)


def test_an_audit_saves_nothing_and_says_so_of_nothing(broken, capsys, monkeypatch):
    def raising(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "begin", raising)
    assert cli.main(["audit", broken, CHECKS]) == INTERRUPTED
    assert capsys.readouterr().err == "jaxreg audit: interrupted\n"


def test_the_page_lists_every_check():
    page = PAGE.read_text(encoding="utf-8")
    assert report.with_checks(page) == page, "run: python -m jaxreg.audit.report docs/audit.md"


def of_the_page(*names: str) -> list[tuple[str, str]]:
    """Name and text of files that the page shows."""
    shown = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    return [(f"{name}.py", dict(shown)[name]) for name in names]


NNX = ("my_model", "audit_my_model")


def test_the_page_s_own_step_is_audited_and_its_loop_s_key_is_found(tmp_path, capsys):
    model, own, loop = of_the_page("my_train", "audit_my_train", "audit_my_loop")
    for name, body in (model, own, loop):
        (tmp_path / name).write_text(body)
    assert len([line for line in own[1].splitlines() if line.strip()]) <= 15
    for (name, _), code in ((own, DONE), (loop, UNMET)):
        words = ["audit", str(tmp_path / name), "--checks=steps_differ", "--json"]
        assert cli.main(words) == code
        [found] = json.loads(capsys.readouterr().out)["findings"]
        assert found["status"] == ("ok" if code == DONE else "FAILED") and found["note"] is None


@pytest.mark.parametrize(
    ("fault", "old", "new", "failed"),
    [
        ("none", "", "", []),
        ("reseeds", "    loss, ", "    nnx.reseed(model, dropout=0)\n    loss, ", ["steps_differ"]),
        ("forgets", "    model.eval()\n", "", ["evaluation_ignores_key"]),
    ],
)
def test_the_page_s_own_nnx_step_is_audited(tmp_path, capsys, fault, old, new, failed):
    def own(text: str) -> str:  # names of modules that no other case has imported
        return re.sub(r"(my_model|my_nnx_train)", rf"\1_{fault}", text)

    for name, body in of_the_page(*NNX, "my_nnx_train", "audit_my_nnx_train"):
        (tmp_path / own(name)).write_text(own(body.replace(old, new) if old else body))
    checks = "--checks=steps_differ,evaluation_ignores_key"
    words = ["audit", str(tmp_path / own("audit_my_nnx_train.py")), checks, "--json"]
    assert cli.main(words) == (UNMET if failed else DONE)
    assert json.loads(capsys.readouterr().out)["failed"] == failed


def test_a_known_check_that_is_not_run_is_a_mistake(broken, capsys):
    assert cli.main(["audit", broken, CHECKS, "--known=decay_spared:meant"]) == MISTAKE
    line = "--known=decay_spared: decay_spared is not among the checks that run"
    assert capsys.readouterr().err == f"jaxreg audit: {line}\n"


def test_the_page_s_padding_is_audited(tmp_path, capsys):
    def own(text: str) -> str:  # names of modules that no other test has imported
        return text.replace("my_model", "my_model_to_pad")

    for name, body in of_the_page(*NNX, "audit_my_padded_model"):
        (tmp_path / own(name)).write_text(own(body))
    file = str(tmp_path / "audit_my_padded_model.py")
    assert cli.main(["audit", file, "--checks=padding,loss_ignored", "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [each["status"] for each in found] == ["ok", "ok"]


@pytest.mark.system
def test_the_page_s_example(tmp_path, jaxreg_command):
    model, audit = of_the_page(*NNX)
    for name, body in (model, audit):
        (tmp_path / name).write_text(body)
    assert len([line for line in audit[1].splitlines() if line.strip()]) <= 15
    done = jaxreg_command("audit", audit[0], cwd=tmp_path)
    assert done.returncode == UNMET, done.stdout + done.stderr
    failed = re.findall(r"(\w+)  +FAILED", done.stdout)
    assert failed == ["examples_differ", "heads_differ"], done.stdout
    known = [f"--known={name}:as in Flax" for name in failed]
    again: subprocess.CompletedProcess = jaxreg_command(
        "audit", audit[0], "--checks=randomness", *known, cwd=tmp_path
    )
    assert again.returncode == DONE and "2 known" in again.stdout


def test_the_page_s_table_of_decay(capsys):
    from tests.audit import planted_optimizers as planted

    block = PAGE.read_text().partition("leaf by leaf:\n\n")[2].partition("\n\n")[0]
    exec(textwrap.dedent(block), {"get_subject": lambda: planted.make(planted.Options())})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {kind for kind, *_ in rows} == {"kernel", "bias", "norm", "embedding"}
    assert all((float(share) > 0) == (kind == "kernel") for kind, _, share in rows)
