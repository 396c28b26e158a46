"""One look for all figures: told apart in grey, the same bytes twice, nothing left behind."""

import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from dsla.plots import style as look


def lightness(colour) -> float:
    """CIE L* of an sRGB colour."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def line_figure():
    with look.style():
        figure = look.picture(3, 2)
        ax = figure.subplots()
        ax.plot([0, 1], [0, 1], color=look.method("DSLA").colour)
        ax.set_title("label · score")
    return figure


def test_methods_that_stand_together_differ_in_grey():
    looks = look.looks()
    trio = [lightness(looks[n].colour) for n in ("FCOS", "FCOS + centerness", "FCOS + IoU", "DSLA")]
    assert np.diff(sorted(trio)).min() >= 8
    assert len({m.marker for m in looks.values()}) == len(looks)
    assert len({str(m.line) for m in looks.values()}) == len(looks)


def test_label_colours_grow_lighter_with_the_label():
    values = np.array([lightness(look.LABELS(i)) for i in range(256)])
    assert (np.diff(values) >= 0).all()
    assert values[0] > 25  # seen on a dimmed photograph
    assert values[-1] - values[0] > 50


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("scenes-fcos-plain", "FCOS"),
        ("fcos_centerness", "FCOS + centerness"),
        ("scenes-fcos", "FCOS + centerness"),
        ("scenes-dsla", "DSLA"),
        ("dsla", "DSLA"),
        ("gfl", "ATSS + IoU label"),
        ("fovea-dsla", "FoveaBox + DSLA"),
        ("scenes-max-iou", "Max-IoU"),
        ("scenes-dsla-iou-only", "DSLA, IoU only"),
    ],
)
def test_recipe_names_have_the_look_of_their_method(given, name):
    assert look.method(given).name == name


def test_unknown_methods_keep_their_look_and_come_last():
    assert look.method("Mine") == look.method("Mine")
    assert look.ordered(["Mine", "dsla", "fcos_centerness", "FCOS"]) == ["FCOS", "fcos_centerness", "dsla", "Mine"]


def test_style_gives_back_what_was_set():
    with mpl.rc_context({"font.size": 23}):
        with look.style():
            assert mpl.rcParams["font.size"] == 8.5
        assert mpl.rcParams["font.size"] == 23


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_equal_figures_have_equal_bytes(kind):
    first, second = (look.picture_bytes(line_figure(), kind) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    assert b"Matplotlib" not in first
    assert b"<dc:date>" not in first


def test_bytes_do_not_depend_on_the_users_settings():
    with mpl.rc_context({"font.size": 23, "svg.hashsalt": "other", "savefig.dpi": 33, "lines.linewidth": 9}):
        inside = look.picture_bytes(line_figure(), "svg")
    assert inside == look.picture_bytes(line_figure(), "svg")


def test_save_by_ending(tmp_path):
    path = look.save(line_figure(), tmp_path / "new folder" / "a.svg")
    assert path.read_bytes() == look.picture_bytes(line_figure(), "svg")
    with pytest.raises(ValueError, match=r"a\.pdf: figures are saved as \.svg or \.png"):
        look.save(line_figure(), tmp_path / "a.pdf")


def test_figures_do_not_pile_up_and_show_themselves():
    before = plt.get_fignums()
    figures = [line_figure() for _ in range(25)]
    assert plt.get_fignums() == before
    assert figures[0]._repr_png_().startswith(b"\x89PNG")


def test_small_pictures_keep_the_colours_of_rare_labels():
    with look.style():
        figure = look.picture(3, 2, layout=None)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.imshow(np.random.default_rng(0).random((200, 300, 3)), extent=(0, 3, 0, 2))  # what takes most of a palette
        ax.imshow([[1.0]], cmap=look.LABELS, vmin=0, vmax=1, extent=(1, 1.2, 1, 1.2))
        ax.set(xlim=(0, 3), ylim=(0, 2))
    seen = np.asarray(Image.open(io.BytesIO(look.small_png(figure))).convert("RGB"), dtype=int)
    assert seen.shape == (200, 300, 3)
    assert np.abs(seen[90, 110] - np.array(look.LABELS(1.0, bytes=True)[:3])).max() < 12
