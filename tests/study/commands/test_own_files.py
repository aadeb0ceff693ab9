"""A person's own text file, from the command line: trained on, compared on, changed and gone."""

import json
import random
import re

import pytest

SMALL = (
    "--config.model.num_layers=1",
    "--config.model.width=8",
    "--config.model.num_heads=2",
    "--config.model.mlp_width=8",
    "--config.train.num_steps=12",
    "--config.train.batch_size=4",
    "--config.train.members_per_device=1",
    "--config.optim.warmup_steps=2",
    "--config.eval.every_steps=6",
    "--config.data.num_train=40",
    "--config.data.num_eval=8",
    "--config.data.length=16",
)


def words(seed: int) -> str:
    chance = random.Random(seed)
    pieces = [" ".join(chance.choices("the a cat dog sat ran on mat".split(), k=20))]
    pieces += [" ".join(chance.choices(pieces[0].split(), k=20)) for _ in range(40)]
    return "\n\n".join(pieces)


@pytest.mark.system
def test_a_text_file_is_trained_on_and_compared_on_and_a_change_is_noticed(
    jaxreg_command, tmp_path
):
    mine = tmp_path / "mine.txt"
    mine.write_text(words(1))
    named = (f"--config.data.path={mine}", *SMALL)
    train = ("train", "--config=configs/tokens.py", *named, f"--workdir={tmp_path}/one")
    done = jaxreg_command(*train)
    assert done.returncode == 0 and "unigram" in done.stdout, done.stdout + done.stderr
    assert "tokens that are used: train" in done.stdout
    assert "writing report" not in done.stdout, "train writes none"
    members = sorted(path.name for path in (tmp_path / "one" / "members").iterdir())
    assert len(members) == 1
    asked = ("--arms=none,dropout", "--seeds=2", *named, f"--workdir={tmp_path}/two")
    compare = ("compare", "experiments/language_model.py", *asked)
    done = jaxreg_command(*compare)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tokens that are used: train" in done.stdout
    page = (tmp_path / "two" / "report.html").read_text()
    assert re.search(r'"machine":"[^"]* tokens/s; [^"]*goodput', page), "what the closing line says"
    found = json.loads((tmp_path / "two" / "results.json").read_text())
    assert set(found["arms"]) == {"none", "dropout"} and len(found["seeds"]) == 2
    status = jaxreg_command("status", f"{tmp_path}/one")
    assert "tokens/s" in status.stdout, status.stdout
    moved = tmp_path / "moved.txt"
    mine.rename(moved)
    gone = jaxreg_command(*train)
    assert gone.returncode == 2 and "there is no such file" in gone.stderr + gone.stdout
    moved.write_text(words(2))
    moved.rename(mine)
    anew = jaxreg_command(*train)
    assert anew.returncode == 0, anew.stdout + anew.stderr
    assert len(list((tmp_path / "one" / "members").iterdir())) == 2, "a changed file trains anew"
