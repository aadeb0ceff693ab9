"""Makes assets/digits.npz from a scikit-learn wheel, which is opened, not installed:

    pip download --no-deps scikit-learn==1.9.1
    python -m jaxreg.data.digits.make_table scikit_learn-*.whl

Any release whose digits have the checksum below gives the same file. Running it is not needed: the
file ships with jaxreg.
"""

import gzip
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

MEMBER = "sklearn/datasets/data/digits.csv.gz"
MEMBER_DIGEST = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"


def table_from(wheel: str | Path) -> UInt8[np.ndarray, "n 65"]:
    """One row per image: 64 pixels, 0 to 16, row by row, and the digit.

    Raises:
      ValueError: the wheel's digits are not those that jaxreg knows.
    """
    with zipfile.ZipFile(wheel) as files:
        packed = files.read(MEMBER)
    if hashlib.sha256(packed).hexdigest() != MEMBER_DIGEST:
        raise ValueError(
            f"{MEMBER} in {wheel} has SHA-256 {hashlib.sha256(packed).hexdigest()}, not"
            f" {MEMBER_DIGEST}"
        )
    return np.loadtxt(io.StringIO(gzip.decompress(packed).decode()), delimiter=",").astype(np.uint8)


def main(wheel: str) -> None:
    """Writes the file; the same wheel gives the same bytes."""
    table = table_from(wheel)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=table[:, :64].reshape(-1, 8, 8), labels=table[:, 64])
    with zipfile.ZipFile(buffer) as files:
        entries = {name: files.read(name) for name in sorted(files.namelist())}
    with zipfile.ZipFile(Path(__file__).with_name("assets") / "digits.npz", "w") as files:
        for name, content in entries.items():
            files.writestr(
                zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED, 9
            )


if __name__ == "__main__":
    main(sys.argv[1])
