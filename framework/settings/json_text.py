"""Parse JSON strictly: invalid text and duplicate keys raise a readable error."""

from __future__ import annotations

import json
from typing import Any

from framework.errors import FrameworkError


def parsed(text: str | bytes, name: str, error: type[FrameworkError]) -> Any:
    """Return the value of a JSON text.

    Args:
        text: The text.
        name: The caller, for messages.
        error: What to raise.

    Raises:
        FrameworkError: Of the class ``error``: the text is no JSON, or an object has one name twice, of which Python
            would silently take the last.

    Example:
        >>> parsed('{"a": 1, "a": 2}', "from_json", FrameworkError)
        Traceback (most recent call last):
        framework.errors.FrameworkError: from_json: the text is not JSON: the name 'a' comes twice in one object
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, TypeError, RecursionError) as cause:
        raise error(f"{name}: the text is not JSON: {cause}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} comes twice in one object")
    return made
