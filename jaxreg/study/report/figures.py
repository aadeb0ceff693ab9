"""Figures by matplotlib, without a window, and the same whatever style or backend a user has."""

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from typing import Any

Axes = Any
"""matplotlib.axes.Axes, which is too heavy to import for a name."""


@contextlib.contextmanager
def style(settings: Mapping[Any, Any]) -> Iterator[None]:
    """matplotlib's own defaults with these rcParams, while figures are made inside.

    A user's MPLBACKEND (each notebook sets one) may name a backend that is not installed here, and
    their matplotlibrc any style: neither is used, and both are there again afterwards.
    """
    backend = os.environ.pop("MPLBACKEND", None)  # read, and checked, when matplotlib is imported
    try:
        import matplotlib  # heavy, and needed for figures only
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield


def new(size: tuple[float | int, float | int], **options: Any) -> Any:
    """A matplotlib Figure of this size in inches, drawn into memory only."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, **options)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any, **options: Any) -> bytes:
    """The figure as a PNG; the same figure gives the same bytes."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None}, **options)
    return content.getvalue()


def svg(figure: Any, **options: Any) -> bytes:
    """The figure as an SVG; the same figure gives the same bytes, without a date.

    Names of its parts are made from `svg.hashsalt`, which the style has to set.
    """
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None}, **options)
    return content.getvalue()
