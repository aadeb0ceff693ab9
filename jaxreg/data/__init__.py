"""Data sets made by grammar, and batches. numpy only: no JAX, and TFDS is imported on the first load.

    dataset    what a data set is: splits, and the views of them that are reported
    catsat     verb number: "the cat SIT on the mat" -> sits
      lexicon    its words        grammar   its frames and how a sentence is drawn
      splits     its splits       builder   its TFDS files
    encoding   any sentence of its words as tokens
    batches    which examples a step sees, as a function of (seed, step)
"""

from jaxreg.data import catsat
from jaxreg.data.batches import batch_indices
from jaxreg.data.catsat import load as load_catsat
from jaxreg.data.dataset import Dataset, LeakError, Split, View
from jaxreg.data.encoding import Encoded, encode

DATASETS = {"catsat": catsat.load}
"""Name in config.data.dataset -> its loader: load(*, seed, cache_dir, **settings) -> Dataset."""

CONTENT_HASHES = {"catsat": lambda **settings: catsat.Settings(**settings).content_hash()}
"""The same names -> the `Dataset.content_hash` of a draw, without loading it: (*, seed, **settings) -> str."""

__all__ = ["CONTENT_HASHES", "DATASETS", "Dataset", "Encoded", "LeakError", "Split", "View", "batch_indices", "encode", "load_catsat"]
