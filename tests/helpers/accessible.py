"""What a page must keep for keyboards, screen readers, low vision and phones, asked of a browser.

`axe(browser)` and `faults(browser)` look at what is shown now; open closed parts first. axe-core
knows the rules of WCAG. `faults` knows what it does not see: text in drawings, a page that is wider
than the screen, links to nowhere.
"""

from importlib import resources
from pathlib import Path

from tests.helpers.chromium import Browser

FAULTS = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")

CAPTURE = """
window.savedFiles = [];
const blobs = new Map();
const make = URL.createObjectURL;
URL.createObjectURL = (blob) => {
  const url = make.call(URL, blob);
  blobs.set(url, blob);
  return url;
};
HTMLAnchorElement.prototype.click = function click() {
  const entry = [this.download, null];
  window.savedFiles.push(entry);
  blobs.get(this.href).text().then((text) => { entry[1] = text; });
};
"""


def open_all(browser: Browser) -> None:
    """Opens every part that is closed, also those that are filled when they open."""
    browser.run(
        "document.querySelectorAll('details').forEach((part) => { part.open = true;"
        " part.dispatchEvent(new Event('toggle')); });"
        "document.querySelectorAll('details').forEach((part) => { part.open = true; })"
    )


def axe(browser: Browser) -> list[str]:
    """What axe-core finds wrong with the page as it is shown now: its rule, and where."""
    source = resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    browser.run(source)
    found = browser.run("return axe.run()")
    assert found["passes"], "it has looked"
    return [
        f"{each['id']}: {each['help']}: {node['html'][:120]}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


def faults(browser: Browser) -> list[str]:
    """What is wrong with the page as it is shown now."""
    texts, found = browser.run(FAULTS)
    assert texts > 20, "the page shows next to nothing"
    return found


def saved(browser: Browser) -> dict[str, str]:
    """File name -> content of everything that the page's buttons save."""
    browser.run(CAPTURE)
    browser.run("document.querySelectorAll('button.save').forEach((button) => button.click())")
    count = browser.count("button.save")
    for _ in range(200):
        files = browser.run("return window.savedFiles")
        if len(files) == count and all(text is not None for _, text in files):
            break
    assert len(files) == count == len({name for name, _ in files}), "names of files are unique"
    return dict(files)
