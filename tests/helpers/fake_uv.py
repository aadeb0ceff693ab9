"""A uv that downloads nothing: an environment is a folder in which the shipped source archive is
unpacked, over this Python.
"""

import sys
import tarfile
from pathlib import Path

WRAPPER = '#!/bin/bash\nexport PYTHONPATH="{source}:$FAKE_UV_PATH"\nexec {python} {module} "$@"\n'


def main(words: list[str]) -> int:
    """`uv venv ... FOLDER` and `uv pip install ... --python FOLDER/bin/python PACKAGES`."""
    if words[0] == "venv":
        assert words[words.index("--python") + 1].startswith("3."), words
        (Path(words[-1]) / "bin").mkdir(parents=True, exist_ok=True)
        return 0
    assert words[:2] == ["pip", "install"] and "jax[tpu]" in words, words
    folder = Path(words[words.index("--python") + 1]).parents[1].absolute()
    archive = next(Path(word) for word in words if word.endswith(".tar.gz"))
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "source", filter="data")
    source = folder / "source" / archive.name.removesuffix(".tar.gz")
    assert (source / "pyproject.toml").is_file()
    for name, module in (("python", ""), ("jaxreg", "-m jaxreg.cli.main")):
        wrapper = folder / "bin" / name
        wrapper.write_text(WRAPPER.format(source=source, python=sys.executable, module=module))
        wrapper.chmod(0o755)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
