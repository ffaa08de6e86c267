"""Make the notebooks of the course from its scripts.

    python examples/course/build.py FOLDER         writes FOLDER/student/*.ipynb and FOLDER/teacher/*.ipynb
    python examples/course/build.py FOLDER --run   also runs the teacher's notebooks, and keeps what they print and draw

It needs the extra ``course``. A lesson is a script in the percent format, which editors open as a notebook: a cell
starts with "# %%", a cell of text with "# %% [markdown]". Cells with the tag "solution" are left out of the student's
notebook. docs/build.py makes the pages of the site by ``write_pages``.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
LESSONS = sorted(HERE.glob("lesson_*.py"))
MARKER = re.compile(r'^# %%(?P<text> \[markdown\])?(?: tags=\["(?P<tag>exercise|solution|check)"\])?$')


class Cell(NamedTuple):
    """A cell of a lesson: text or code, and "exercise", "solution", "check" or ""."""

    text: bool
    tag: str
    source: str


def cells(script: str) -> list[Cell]:
    """Return the cells of a script in the percent format.

    Raises:
        ValueError: A line starts like a marker of a cell and is not one, or code stands before the first cell.
    """
    found: list[tuple[bool, str, list[str]]] = []
    for number, line in enumerate(script.splitlines(), 1):
        if line.startswith("# %%"):
            if not (match := MARKER.match(line)):
                raise ValueError(f"line {number}: a cell starts with '# %%', with [markdown] or one tag; got {line!r}")
            found.append((bool(match["text"]), match["tag"] or "", []))
        elif found:
            found[-1][2].append(line)
        elif line:
            raise ValueError(f"line {number}: the first cell starts after this line, {line!r}")
    return [
        Cell(
            text,
            tag,
            "\n".join(re.sub(r"^# ?", "", line) for line in lines).strip() if text else "\n".join(lines).strip(),
        )
        for text, tag, lines in found
    ]


def notebook(name: str, parts: list[Cell]):
    """Return a notebook without outputs. The same script always gives the same file."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook  # noqa: PLC0415

    made = []
    for number, part in enumerate(parts):
        make = new_markdown_cell if part.text else new_code_cell
        tags = {"tags": [part.tag]} if part.tag else {}
        made.append(make(part.source, id=f"{name.replace('_', '-')[:50]}-{number}", metadata=tags))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=made, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def build(folder: Path, run: bool = False) -> list[Path]:
    """Write the notebooks of all lessons for students and for teachers, and return their paths."""
    import nbformat  # noqa: PLC0415

    made = {}
    for script in LESSONS:
        parts = cells(script.read_text(encoding="utf-8"))
        for reader in ("student", "teacher"):
            kept = [part for part in parts if reader == "teacher" or part.tag != "solution"]
            made[folder / reader / f"{script.stem}.ipynb"] = notebook(script.stem, kept)
    if run:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            [*pool.map(execute, (found for path, found in made.items() if path.parent.name == "teacher"))]
    for path, found in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(found, path)
    return [*made]


def execute(made) -> None:
    """Run a notebook in a kernel and a folder of its own, and keep its outputs in it."""
    from nbclient import NotebookClient  # noqa: PLC0415

    with TemporaryDirectory() as work:  # for the files that a lesson writes
        resources = {"metadata": {"path": work}}
        client = NotebookClient(made, timeout=120, resources=resources)
        client.coalesce_streams = True  # what a cell prints is one output
        client.extra_arguments = ["--log-level=ERROR"]  # ipykernel warns that other programs could listen
        client.execute()


def write_pages(folder: Path) -> list[Path]:
    """Write the notebooks, run them, and write each lesson as a page of Markdown; return the paths of the pages."""
    import nbformat  # noqa: PLC0415

    pages = []
    for path in build(folder, run=True):
        if path.parent.name == "teacher":
            pages.append(folder / f"{path.stem}.md")
            pages[-1].write_text(page(nbformat.read(path, 4), pages[-1]), encoding="utf-8")
    return pages


def page(made, path: Path) -> str:
    """Return a notebook that was run as Markdown for Sphinx, and write its pictures beside the path of the page.

    The solution of an exercise is folded and follows its check, because what the check prints may give it away.
    """
    blocks, solution = [], ""
    for number, cell in enumerate(made.cells):
        tag = "".join(cell.metadata.get("tags", []))
        if cell.cell_type == "markdown":
            blocks.append(cell.source)
            continue
        code = f"```python\n{cell.source}\n```"
        pictures = (path.with_name(f"{path.stem}_{number}_{place}.png") for place in range(len(cell.outputs)))
        printed = [*map(shown, cell.outputs, pictures)]
        if tag == "solution":
            solution = code
        elif tag == "check":
            blocks += [code, "<details>\n<summary>Solution</summary>", solution, *printed, "</details>"]
        else:
            blocks += [code, *printed]
    downloads = [
        f"[Download the notebook](student/{path.stem}.ipynb) and [open it](../../course.md), or read on.",
        f"For teachers: [the notebook with solutions](teacher/{path.stem}.ipynb).",
    ]
    blocks.insert(1, "\n".join(downloads))
    return "\n\n".join(filter(None, blocks)) + "\n"


def shown(output, picture: Path) -> str:
    """Return an output of a cell as Markdown: a picture, a table, a formula or text."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        picture.write_bytes(base64.b64decode(data["image/png"]))
        return f"![What the code above draws]({picture.name})"
    if "text/html" in data:
        return f"```{{raw}} html\n{data['text/html']}\n```"
    if "text/latex" in data:
        return data["text/latex"]
    text = data["text/plain"].rstrip()
    plain = f"```{{code-block}} text\n:class: sphx-glr-script-out\n\n{text}\n```"  # as the gallery shows it
    return "" if text.startswith("<") else plain  # <Axes ...> says nothing


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description="Make the notebooks of the course.")
    parser.add_argument("folder", type=Path, help="where to write them; folders are made")
    parser.add_argument("--run", action="store_true", help="run the teacher's notebooks, and keep their outputs")
    arguments = parser.parse_args()
    written = build(arguments.folder, arguments.run)
    print(f"wrote {len(written)} notebooks into {arguments.folder}/student and {arguments.folder}/teacher")


if __name__ == "__main__":
    main()
