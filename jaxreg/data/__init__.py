"""Data sets made by grammar, and batches. numpy only: no JAX, and TFDS is imported on the first
load.

dataset    what a data set is: splits, and the views of them that are reported
source     how a data set is drawn and described: one file and one line of SOURCES each
builder    the TFDS files of any source
catsat     verb number: "the cat SIT on the mat" -> sits
  lexicon    its words        grammar   its frames and how a sentence is drawn        splits     its
  splits
agree      verb number in 15 frames of English: agree_grammar has the frames, the words and all
minimal pairs cues       two redundant cues and a shortcut, wrong labels, canaries
recall     a value by its key: one attention edge carries the answer
modn       modular arithmetic, a share of the training labels wrong
digits     images of digits as patches; make_digits made their file
text       the next character of prose, split by document; corpora is where the prose comes from
encoding   any sentence of CATSAT's words as tokens
batches    which examples a step sees, as a function of (seed, step)
"""

from jaxreg.data import cues, modn, recall
from jaxreg.data.agree.source import SOURCE as AGREE
from jaxreg.data.batches import batch_indices
from jaxreg.data.catsat.encode import encode
from jaxreg.data.catsat.source import SOURCE as CATSAT
from jaxreg.data.catsat.source import load as load_catsat
from jaxreg.data.dataset import Dataset, LeakError, Split, View
from jaxreg.data.digits.source import SOURCE as DIGITS
from jaxreg.data.row import Encoded, encode_row
from jaxreg.data.source import Legend, Source, setting
from jaxreg.data.text.source import SOURCE as TEXT

SOURCES: dict[str, Source] = {
    "catsat": CATSAT,
    "agree": AGREE,
    "cues": cues.SOURCE,
    "recall": recall.SOURCE,
    "modn": modn.SOURCE,
    "digits": DIGITS,
    "text": TEXT,
}
"""The value of config.data.dataset -> the data set. A new one is one file and one line here; see
`source.py`.
"""

__all__ = [
    "SOURCES",
    "Dataset",
    "Encoded",
    "LeakError",
    "Legend",
    "Source",
    "Split",
    "View",
    "batch_indices",
    "encode",
    "encode_row",
    "load_catsat",
    "setting",
]
