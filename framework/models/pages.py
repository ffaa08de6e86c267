"""Pages: a model as HTML, for notebooks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from framework.base.errors import brief
from framework.base.shapes import format_shape, of_rows
from framework.base.tables import Markup, as_html, bold, fold_content, html

if TYPE_CHECKING:
    from framework.models.base import Model


def model_html(model: Model) -> Markup:
    """Return a table of the layers; each unfolds to its settings and to the shapes of its arrays.

    Example:
        >>> from framework import Dense
        >>> page = model_html(Dense(2, 3))
        >>> "<summary>Dense(Identity)</summary>" in page, "(rows, 3)" in page, "weights" in page
        (True, True, True)
    """
    if not model.settled:
        rows = [(f"{path} {layer._label}".strip(), "", "") for path, layer in model.walk_models() if _is_layer(layer)]
        return _page(model, "its number of inputs is not known yet", rows, {}, set())
    layout = model.layout()
    frozen = set() if model._state is None else {*model.parameters.frozen}
    size = sum(map(math.prod, layout.values()))
    trained = size - sum(math.prod(layout[name]) for name in frozen)
    summary = model._summary_rows("", model.known_shape)
    rows = [(label, format_shape(of_rows(shape)), f"{count:,}") for label, shape, count in summary]
    return _page(model, f"{size:,} parameters, {trained:,} trainable", rows, layout, frozen)


def _page(
    model: Model, said: str, rows: list[tuple[str, str, str]], layout: dict[str, tuple[int, ...]], frozen: set[str]
) -> Markup:
    """Return a line about a model, and the table; a label is a place and the name of a class."""
    places = dict(model.walk_models())
    cells = []
    for label, *more in rows:
        path = label.rpartition(" ")[0]
        start = path and f"{path}."
        settings = places[path].settings() if _is_layer(places[path]) else {}  # otherwise they are in other rows
        inside = [(name, brief(value)) for name, value in settings.items() if value is not None]
        inside += [
            (name.removeprefix(start), f"{shape}{', frozen' if name in frozen else ''}")
            for name, shape in layout.items()
            if name.startswith(start)
        ]
        cells.append((fold_content(label, as_html([("setting", "value"), *inside], left=2)), *more))
    table = as_html([("layer", "output", "parameters"), *cells], left=2)
    return Markup(f"<div>{bold(type(model).__name__)} {html(said)}{table}</div>")


def _is_layer(model: Model) -> bool:
    """Return whether there are no models inside."""
    return len([*model.walk_models()]) == 1
