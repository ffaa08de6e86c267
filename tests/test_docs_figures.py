"""docs/plots.md and docs/start.md: their figures are those that docs/figures.py makes."""

import re
import runpy
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image

mpl.use("Agg")

DOCS = Path(__file__).parents[1] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "figures.py"))


def test_the_page_shows_every_figure_of_the_script_and_no_other():
    made = {f"plots_{name}.png" for name in SCRIPT["FIGURES"]}
    assert {path.name for path in DOCS.glob("plots_*.png")} == made
    shown = "".join((DOCS / page).read_text(encoding="utf-8") for page in ("plots.md", "start.md"))
    assert {*re.findall(r"\]\((plots_\w+\.png)\)", shown)} == made


def test_a_figure_is_written_small_and_transparent(tmp_path):
    (path,) = SCRIPT["make"](tmp_path, ["written"])
    assert path.stat().st_size < 20_000
    with Image.open(path) as image:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
    assert alpha[0, 0] == 0
    assert alpha.max() == 255
