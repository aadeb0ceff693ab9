"""Mistakes in what is typed, in a person's own files and in their data: each is found before
anything trains.
"""

import dataclasses

from tests.helpers.own_experiment import DATA, broken


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One mistake: found in this process, by the command's own main function; exit code 2 and one
    line each.

    Attributes:
      typed: the words behind `jaxreg`. says: parts of the one line. file: the text of
        experiments/own.py, where it is about that.
    """

    name: str
    what: str
    typed: str
    says: tuple[str, ...]
    file: str | None = None


OWN = "compare experiments/own.py --workdir=W"
TRAIN = "train --config=configs/tiny.py --workdir=W"
INSPECT = "inspect RUN --arm=none --seed=1"
LONG = "the_cat_" * 40


def _data(name: str, what: str, change: str, *says: str, where: str = DATA) -> Mistake:
    return Mistake(name, what, OWN, says, broken((where, change)))


MISTAKES = {
    "A data set of one's own": (
        _data(
            "token_out_of_range",
            "a token id out of range",
            "tokens[3, 2] = 17",
            "split 'train': row 3 has token 17; it must be from 0 to 2",
        ),
        _data(
            "token_negative",
            "a negative token id",
            "tokens[40, 0] = -1",
            "split 'validation': row 8 has token -1",
        ),
        _data(
            "label_out_of_range",
            "a label that is no output",
            "label[0] = 2",
            "split 'train': row 0 has label 2; it must be from 0 to 1",
        ),
        _data(
            "query_out_of_range",
            "a query behind the end of the sentence",
            "zeros + tokens.shape[1]",
            "has query_position 8; it must be from 0 to 7",
            where="zeros + (tokens.shape[1] - 1)",
        ),
        _data(
            "sentence_too_long",
            "sentences longer than data.length",
            "tokens = np.concatenate([tokens, tokens], axis=1)",
            "its rows have 16 positions; data.length is 8",
        ),
        _data(
            "empty_split",
            "an empty split",
            "parts['validation'] = slice(0, 0)",
            "the split 'validation' has no row",
        ),
        _data(
            "empty_train",
            "an empty training split",
            "parts['train'] = slice(0, 0)",
            "the split 'train' has no row",
        ),
        _data(
            "few_rows",
            "a training split smaller than a batch",
            "parts['train'] = slice(0, 5)",
            "train.batch_size is 8; bits has drawn only 5 training rows, though data.num_train"
            " is 32",
        ),
        _data(
            "split_missing",
            "a split that views need is not drawn",
            "del parts['validation']",
            "its draw gives no split 'validation'",
        ),
        _data(
            "leak",
            "a held-out sentence is in training, too",
            "parts['validation'] = slice(0, 8)",
            "train and validation share a sentence",
        ),
        _data(
            "draw_says_no",
            "a draw that says what is wrong",
            "raise ValueError('bits.txt has 3 columns, not 2')",
            "bits.txt has 3 columns, not 2",
        ),
        Mistake(
            "batch_too_large",
            "a batch larger than the split",
            f"{OWN} --config.train.batch_size=64",
            ("train.batch_size is 64; the training split has only 32 rows",),
            broken(),
        ),
        Mistake(
            "too_many_rows",
            "more rows than there are distinct ones",
            f"{OWN} --config.data.length=2 --config.data.num_eval=2",
            ("data set bits",),
            broken(),
        ),
    ),
    "An experiment or config file": (
        Mistake(
            "syntax",
            "a file that is not Python",
            OWN,
            ("own.py", "line 1", "SyntaxError"),
            "def get_experiment(: pass\n",
        ),
        Mistake(
            "raises",
            "a file that raises",
            OWN,
            ("own.py", "ZeroDivisionError: division by zero"),
            "def get_experiment():\n  return 1 / 0\n",
        ),
        Mistake(
            "imports",
            "a file that imports what is not there",
            OWN,
            ("own.py", "ModuleNotFoundError", "no_such_thing"),
            "import no_such_thing\n",
        ),
        Mistake("not_utf8", "a file in another encoding", OWN, ("own.py", "SyntaxError"), "\udcff"),
        Mistake(
            "no_experiment",
            "a function that returns something else",
            OWN,
            ("get_experiment",),
            "def get_experiment():\n  return {}\n",
        ),
        Mistake(
            "no_config",
            "the config file is missing",
            OWN,
            ("configs/bit.py: no such file; did you mean",),
            broken(("../configs/bits.py", "../configs/bit.py")),
        ),
        Mistake(
            "no_baseline",
            "a baseline that is no arm",
            OWN,
            ("baseline", "nothing_at_all"),
            broken(('baseline="none"', 'baseline="nothing_at_all"')),
        ),
        Mistake("alpha", "an alpha above 1", OWN, ("alpha",), broken(("alpha=0.05", "alpha=5.0"))),
        Mistake(
            "margin", "a negative margin", OWN, ("margin",), broken(("margin=0.05", "margin=-0.05"))
        ),
        Mistake(
            "same_seeds",
            "a seed twice",
            OWN,
            ("repeated",),
            broken(("seeds=(1, 2)", "seeds=(1, 1)")),
        ),
        Mistake(
            "no_arms",
            "an arm that changes the data",
            OWN,
            ("arm 'mine'", "data.num_train"),
            broken(('{"loss.mine_strength": 0.01}', '{"data.num_train": 16}')),
        ),
        Mistake(
            "unknown_strength",
            "an arm with a misspelt field",
            OWN,
            ("arm 'mine'", "did you mean loss.mine_strength?"),
            broken(('{"loss.mine_strength": 0.01}', '{"loss.mien_strength": 0.01}')),
        ),
        Mistake(
            "penalty_untold",
            "a penalty that does not say what it is",
            OWN,
            ("own.penalties: 'mine' has no text `source`",),
            broken(('    source = "mine"\n', "")),
        ),
        Mistake(
            "own_name_taken",
            "a data set under a name of ours",
            OWN,
            ("own.datasets: 'catsat' is one of ours",),
            broken(('datasets={"bits": BITS}', 'datasets={"catsat": BITS}')),
        ),
    ),
    "Directories and variables": (
        Mistake(
            "name_too_long",
            "a run directory whose name is too long",
            f"train --config=configs/tiny.py --workdir={LONG}",
            ("the name is too long",),
        ),
        Mistake(
            "data_is_a_file",
            "JAXREG_DATA is a file",
            f"JAXREG_DATA=FILE {TRAIN}",
            ("data cannot be written there", "JAXREG_DATA"),
        ),
        Mistake(
            "data_is_remote",
            "JAXREG_DATA is a bucket",
            f"JAXREG_DATA=gs://bucket/data {TRAIN}",
            ("it must be a local folder",),
        ),
        Mistake(
            "config_no_json",
            "config.json is no JSON",
            "report BROKEN",
            ("BROKEN/config.json: is damaged", "put a copy back"),
        ),
        Mistake(
            "config_no_object",
            "config.json holds no object",
            "report LIST",
            ("LIST/config.json: is damaged (it is no JSON object)",),
        ),
        Mistake(
            "results_no_json",
            "results.json is no JSON",
            "inspect HALF --arm=none --seed=1",
            ("HALF/results.json: is damaged",),
        ),
        Mistake(
            "seed_too_large",
            "a seed above the largest",
            f"{OWN} --seeds=99999999999,",
            ("seed",),
            broken(),
        ),
        Mistake(
            "workdir_of_another",
            "the directory of another experiment",
            "compare experiments/own.py --workdir=OTHER",
            ("holds experiment 'parity', not 'bits'; choose another --workdir",),
            broken(),
        ),
    ),
    "Values": (
        Mistake(
            "text_too_long",
            "a sentence too long",
            f"{INSPECT} --text=the,cat,sat,on,the,mat,on,the,mat,on,the,mat,on",
            ("has 13 words; 1 to 12 fit",),
        ),
        Mistake(
            "text_two_verbs",
            "a sentence with two verbs",
            f"{INSPECT} --text=the,cat,sat,rests",
            ("has 2 verbs",),
        ),
        Mistake(
            "decay_negative",
            "a negative weight decay",
            f"{TRAIN} --config.optim.weight_decay=-1",
            ("optim.weight_decay=-1: must be",),
        ),
        Mistake(
            "optimizer",
            "an unknown optimizer",
            f"{TRAIN} --config.optim.optimizer=adamm",
            ("optim.optimizer=adamm", "did you mean"),
        ),
        Mistake(
            "schedule",
            "an unknown schedule",
            f"{TRAIN} --config.optim.schedule=cosin",
            ("did you mean cosine?",),
        ),
        Mistake(
            "positions",
            "rotary positions with an odd width",
            f"{TRAIN} --config.model.positions=rotary --config.model.width=6",
            ("rotary", "even width"),
        ),
        Mistake(
            "unit",
            "an unknown unit of dropout",
            f"{TRAIN} --config.model.attention_dropout_unit=conection",
            ("did you mean connection?",),
        ),
        Mistake(
            "span",
            "spans without a length",
            f"{TRAIN} --config.model.attention_dropout_unit=span",
            ("span_length",),
        ),
        Mistake(
            "two_points",
            "SAM and ASAM at once",
            f"{TRAIN} --config.optim.sam_radius=.1 --config.optim.asam_radius=.1",
            ("are both set",),
        ),
        Mistake(
            "two_mixings",
            "mixup and cutmix at once",
            f"{TRAIN} --config.augment.mixup_strength=1 --config.augment.cutmix_strength=1",
            ("are set together",),
        ),
        Mistake(
            "every_zero",
            "an evaluation every 0 steps",
            f"{TRAIN} --config.eval.every_steps=0",
            ("eval.every_steps=0: must be",),
        ),
        Mistake(
            "infinite",
            "an infinite learning rate",
            f"{TRAIN} --config.optim.learning_rate=inf",
            ("optim.learning_rate=inf: must be",),
        ),
        Mistake(
            "too_many_sentences",
            "more sentences than the grammar has",
            f"{TRAIN} --config.data.num_train=90000000",
            ("num_train",),
        ),
        Mistake(
            "patience",
            "a patience of 0",
            f"{TRAIN} --config.stopping.patience_evals=0",
            ("stopping.patience_evals=0: must be",),
        ),
        Mistake(
            "twice",
            "a field given twice",
            f"{TRAIN} --config.seed=1 --config.seed=2",
            ("--config.seed: is given twice",),
        ),
        Mistake(
            "counterfactual_step",
            "a connection of a step that is none",
            f"{TRAIN} --config.counterfactual.step=300",
            ("counterfactual.step is 300; it must be less than train.num_steps",),
        ),
        Mistake(
            "scheduled",
            "a schedule of a strength that is absent",
            f"{TRAIN} --config.schedule.fields=model.token_dropout_rate",
            ("model.token_dropout_rate is None; it must have a value to be scheduled",),
        ),
        Mistake(
            "save_negative",
            "a negative time between saves",
            f"{TRAIN} --config.checkpoint.every_seconds=-1",
            ("checkpoint.every_seconds=-1: must be",),
        ),
    ),
}
