"""Where data sets, imported texts and encoded tokens are kept."""

import os
from pathlib import Path

from jaxreg.errors import UserErrors


def cache_directory() -> Path:
    """$JAXREG_DATA, else ~/.cache/jaxreg/data.

    Raises:
      UserErrors: it is no folder of this machine.
    """
    text = os.environ.get("JAXREG_DATA", "~/.cache/jaxreg/data")
    if "://" in text:  # `Path` would make a folder "gs:" of it
        raise UserErrors(
            [
                f"JAXREG_DATA={text}: it must be a local folder, on every host its own; data sets"
                " are made anew in seconds"
            ]
        )
    return Path(text).expanduser()
