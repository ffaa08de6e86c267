"""docs/plots.md, docs/start.md and docs/index.md: their figures are those that docs/figures.py makes."""

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
    made = {path.stem for path in DOCS.glob("plots_*")}
    assert made == {f"plots_{name}" for name in SCRIPT["FIGURES"]}
    shown = "".join((DOCS / page).read_text(encoding="utf-8") for page in ("plots.md", "start.md", "index.md"))
    assert {*re.findall(r"\]\((plots_\w+)\.(?:png|gif)\)", shown)} == made


def test_a_figure_is_written_small_and_transparent(tmp_path):
    (path,) = SCRIPT["make"](tmp_path, ["written"])
    assert path.stat().st_size < 20_000
    with Image.open(path) as image:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
    assert alpha[0, 0] == 0
    assert alpha.max() == 255


def test_the_picture_that_moves_shows_each_epoch_on_opaque_white(tmp_path):
    frames = SCRIPT["training"]((1, 2, 4))
    path = tmp_path / "moving.gif"
    SCRIPT["save_moving"](frames, path)
    with Image.open(path) as image:
        assert image.n_frames == 3
        for number, frame in enumerate(frames):
            image.seek(number)
            shown = np.asarray(image.convert("RGBA"), float)
            assert shown[0, 0].tolist() == [255, 255, 255, 255]
            assert (shown[..., 3] == 255).all()
            assert np.abs(shown[..., :3] - frame).mean() < 2
    with Image.open(DOCS / "plots_training.gif") as image:
        assert image.n_frames > 20
    assert (DOCS / "plots_training.gif").stat().st_size < 600_000
