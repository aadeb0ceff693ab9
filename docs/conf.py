"""The site: `sphinx-build -W docs site`. It needs `pip install -e ".[docs]"` and no network."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from experiments.pages import reference  # noqa: E402

project = "jaxreg"
copyright = "the authors of jaxreg, Apache-2.0"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"jaxreg {release}"
html_show_sphinx = False
myst_heading_anchors = 3
default_role = "code"
nb_execution_mode, nb_execution_raise_on_error = "force", True  # tutorials run at each build
nb_execution_timeout = 300
nb_execution_in_temp = True  # they write files
nb_merge_streams = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar, napoleon_use_rtype = True, False
templates_path, html_static_path = [], []


def outside_is_text(app, docname, content):
    """Links to files of the repository become their paths: the site does not have them."""
    page = Path(app.env.doc2path(docname))

    def shown(link: re.Match) -> str:
        path = (page.parent / link[2]).resolve()
        inside = path.is_relative_to(ROOT / "docs") or path.suffix in (".png", ".svg")
        return link[0] if inside else f"{link[1]} (`{path.relative_to(ROOT)}`)"

    content[0] = re.sub(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]+)(?:#[^)]*)?\)", shown, content[0])


PASTED = "tutorials/own-text"
"""A tutorial for the shell: the site shows below each of its blocks what that block prints."""
AS_NOTEBOOK = """---
file_format: mystnb
kernelspec:
  name: python3
---

```{code-cell}
:tags: [remove-cell]
import os, sys
from pathlib import Path

os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
os.environ["JAX_PLATFORMS"] = "cpu"
```

"""


def with_output(app, docname, content):
    """Runs the blocks of a tutorial for the shell as the cells of a notebook."""
    if docname != PASTED:
        return
    cell = r"\g<0>\n\n```{code-cell}\n:tags: [remove-input]\n!\g<1> | cat\n```"  # no terminal
    content[0] = AS_NOTEBOOK + re.sub(r"```bash\n(.+)\n```", cell, content[0])


def as_restructured_text(app, what, name, obj, options, lines):
    """Docstrings have Markdown's tables; stars, bars and last underscores mean themselves."""
    made = []
    for line in lines:
        if re.fullmatch(r"\s*\|[-| ]+\|\s*", line):
            continue  # the rule below a table's head
        cells = re.fullmatch(r"(\s*)\|(.*)\|\s*", line)
        if cells is None:
            made.append(escaped(line))
            continue
        if not made or not made[-1].startswith(f"{cells[1]}   "):
            made += ["", f"{cells[1]}.. list-table::", f"{cells[1]}   :header-rows: 1", ""]
        first, *others = (escaped(cell.strip()) for cell in cells[2].split("|"))
        made.append(f"{cells[1]}   * - {first}")
        made += [f"{cells[1]}     - {cell}" for cell in others]
    lines[:] = made


def escaped(text: str) -> str:
    """Text outside of backticks, with the signs of reStructuredText as themselves, and links."""
    signs, link = r"[*|]|(?<=\w)_(?!\w)", "`{0} <{1}>`__"
    return "".join(
        part if part.startswith("`") else reference.linked(re.sub(signs, r"\\\g<0>", part), link)
        for part in re.split(r"(`[^`]*`)", text)
    )


def setup(app):
    """Connects the above; the reference is written before pages are looked for."""
    reference.main()
    app.connect("source-read", outside_is_text)
    app.connect("source-read", with_output)
    app.connect("autodoc-process-docstring", as_restructured_text)
