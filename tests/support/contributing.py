"""The parts of docs/contributing.md, which show how each kind of part is added.

A block begins with its file: ``# PATH`` of a new file, ``# PATH, at its end``, or ``# PATH, before: TEXT``, which is a
part of one line of the file. So a change of other lines of the file does not matter.
"""

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "contributing.md"


class Addition(NamedTuple):
    """A block of the page."""

    path: str
    where: str
    text: str


def additions():
    """The additions under each heading of the page that has some."""
    sections = re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    block = re.compile(r"^```py\n# (\S+?)(?:, (at its end|before: [^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    parts = [[Addition(*match.groups("")) for match in block.finditer(section)] for section in sections]
    return [part for part in parts if part]


def apply(addition, folder):
    """Add a block to the files of a folder."""
    path = Path(folder, addition.path)
    assert path.exists() == bool(addition.where), f"{path}: the page says that it is {addition.where or 'new'}"
    if addition.where.startswith("before: "):
        lines, anchor = path.read_text(encoding="utf-8").splitlines(keepends=True), addition.where[8:]
        (index,) = (index for index, line in enumerate(lines) if anchor in line)
        path.write_text("".join([*lines[:index], addition.text, *lines[index:]]), encoding="utf-8")
    else:
        old = path.read_text(encoding="utf-8") + "\n\n" if addition.where else ""
        path.write_text(old + addition.text, encoding="utf-8")


def export(name, path, folder):
    """Import a class in the stub of its family."""
    exports = Path(folder, *path.split("/")[:2], "__init__.pyi")
    line = f"from {path.removesuffix('.py').replace('/', '.')} import {name} as {name}\n"
    exports.write_text(exports.read_text(encoding="utf-8") + line, encoding="utf-8")
