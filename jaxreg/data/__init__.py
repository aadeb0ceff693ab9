"""Data sets and batches. numpy only: no JAX, and TFDS is imported on the first load.

dataset    the splits of a data set, and the views of them that are reported
source     the draw and description of a data set: one package and one line of SOURCES each
cache      the TFDS files of any source
cache_directory  where they are kept
catsat     verb number: "the cat SIT on the mat" -> sits
agree      verb number in 15 frames of English
cues       two redundant cues and a shortcut, wrong labels, canaries
recall     a value by its key: one attention edge carries the answer
modn       modular arithmetic, a share of the training labels wrong
digits     images of digits as patches
images     labelled images of a TFDS set as patches
labelled_text  labelled texts of a TFDS set
text       the next character of prose
tokens     the next token of a person's own files
row        one sentence or row as tokens
rows       a table of rows that stays in files
prepared   sets of TFDS on this machine, read without their code
labelled   labelled examples of such a set, dealt to splits
kept       what one pass over files found
next_token rows that are asked for the next token at every position
unigram    what a model of next tokens must beat
batches    which examples a step sees, as a function of (seed, step)
"""

from jaxreg.data import (
    agree,
    catsat,
    cues,
    digits,
    images,
    labelled_text,
    modn,
    recall,
    text,
    tokens,
)
from jaxreg.data.batches import batch_indices
from jaxreg.data.dataset import Dataset, LeakError, Split, View
from jaxreg.data.next_token import next_token_split
from jaxreg.data.row import Encoded
from jaxreg.data.source import Legend, Source, setting
from jaxreg.data.unigram import Unigram

SOURCES: dict[str, Source] = {
    "catsat": catsat.SOURCE,
    "agree": agree.SOURCE,
    "cues": cues.SOURCE,
    "recall": recall.SOURCE,
    "modn": modn.SOURCE,
    "digits": digits.SOURCE,
    "images": images.SOURCE,
    "text": text.SOURCE,
    "tokens": tokens.SOURCE,
    "labelled_text": labelled_text.SOURCE,
}
"""config.data.dataset -> the data set. A new one is a package and a line here, see `source.py`."""

DEFAULT_DATASET = "catsat"
"""The data set whose settings a config has by default."""

__all__ = [
    "DEFAULT_DATASET",
    "SOURCES",
    "Dataset",
    "Encoded",
    "LeakError",
    "Legend",
    "Source",
    "Split",
    "Unigram",
    "View",
    "batch_indices",
    "next_token_split",
    "setting",
]
