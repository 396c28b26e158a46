"""The network as a picture: blocks and shapes are those of a built detector's forward pass, nothing is typed."""

from collections import Counter
from collections.abc import Iterator
from math import copysign, log2
from typing import Any

import pandas as pd
import torch
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from ..errors import DataError
from ..models import Detector
from ..models.build import build
from ..models.swin import SwinFeatures
from ..recipes.recipe import Recipe
from .style import FAINT, INK, SOFT, Picture, beside, caption, drawing

Place = tuple[float, float, float]  # x, y, width of a box
FILLS = {
    "image": (0.0, "#eceff4"),
    "backbone": (0.0, "#dbe9f6"),
    "pyramid": (2.55, "#fbe3cf"),
    "head": (5.7, "#e3f1e4"),
}
HIGH, BUS, EVERY = 0.62, 3.85, "every level"  # height of a box; x of the line that all levels lead to; source of towers
COLUMNS = ["part", "name", "sources", "operation", "channels", "height", "width", "stride", "parameters"]


def network_table(recipe: Recipe | str, num_classes: int, size: tuple[int, int]) -> pd.DataFrame:
    """One row a map of the network, from a forward pass of shapes alone (torch's meta device).

    Args:
        size: (height, width) of the padded batch, a multiple of the coarsest stride of the backbone.

    Returns:
        part (image, backbone, pyramid, head), name (C3, P3, …), sources (names of the rows it reads), operation (that
        made it), channels, height, width (<NA> in the head, which all levels share), stride, parameters.
    Raises:
        DataError: the backbone is Swin.
    """
    with torch.device("meta"):
        model = build(recipe, num_classes=num_classes).eval()
        batch = torch.empty(1, 3, *size)
    if isinstance(model.backbone, SwinFeatures):
        raise DataError("a network's table is of convolutions, whose maps have channels first: Swin-S has none")
    stages: dict[int, list[tuple[nn.Module, Tensor]]] = {}
    for module in model.backbone.modules():
        module.training = True  # else norms of fixed statistics are part of their convolutions, which no hook sees

    def note(module: nn.Module, _: Any, out: Any) -> None:
        if isinstance(out, Tensor):
            stages.setdefault(round(log2(size[1] / out.shape[-1])), []).append((module, out))

    children = list(model.backbone.children())
    blocks = [block for c in children for block in (c if isinstance(c, nn.ModuleList) else [c])]
    handles = [block.register_forward_hook(note) for block in blocks]
    with torch.inference_mode():
        pyramid = list(model.pyramid(model.backbone(batch)).values())
        outputs = model.head(pyramid)
    for handle in handles:
        handle.remove()
    rows = [["image", "image", "", "resized, normalised", 3, *size, 1, 0]]
    for level, done in sorted(stages.items()):
        last = done[-1][1]
        count = sum(_count(m) for m, _ in done)
        before = f"C{level - 1}" if level - 1 in stages else "image"
        rows.append(["backbone", f"C{level}", before, _blocks([m for m, _ in done]), *last.shape[1:], 2**level, count])
    rows += [["pyramid", *row] for row in _pyramid_rows(model.pyramid, pyramid, size, max(stages))]
    rows += [["head", *row] for row in _head_rows(model)]
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"height": "Int64", "width": "Int64", "stride": "Int64"})
    frame.attrs = {
        "recipe": model.recipe.name if model.recipe else "",
        "points": outputs.logits.shape[1],
        "millions": _count(model) / 1e6,
    }
    return frame


def _pyramid_rows(net: Any, maps: list[Tensor], size: tuple[int, int], coarsest: int) -> Iterator[list[Any]]:
    """Laterals and upsampled sums, then the stride-2 convolutions above them."""
    merged = list(zip(net.inner_blocks, net.layer_blocks, strict=True))
    for i, x in enumerate(maps):
        level = round(log2(size[1] / x.shape[-1]))
        if i < len(merged):
            top, convs = i + 1 == len(merged), list(merged[i])
            sources = f"C{level}" + ("" if top else f" P{level + 1}")
        else:
            top, convs = True, [(net.extra_blocks.p6, net.extra_blocks.p7)[i - len(merged)]]
            sources = f"{'P' if level > coarsest + 1 or net.extra_blocks.use_P5 else 'C'}{level - 1}"
        words = (", " if top else ", + upsampled, ").join(map(_kernel, convs))
        yield [f"P{level}", sources, words, *x.shape[1:], 2**level, sum(map(_count, convs))]


def _head_rows(model: Detector) -> Iterator[list[Any]]:
    head, none = model.head, [pd.NA, pd.NA, pd.NA]
    for name, tower in (("class tower", head.class_tower), ("box tower", head.box_tower)):
        convs = [m for m in tower if hasattr(m, "out_channels") or not isinstance(m, (nn.GroupNorm, nn.ReLU))]
        norms = [m for m in tower if isinstance(m, nn.GroupNorm)]
        words = f"{len(convs)} × ({_kernel(convs[0])}, GroupNorm {norms[0].num_groups}, ReLU)" if convs else "none"
        yield [name, EVERY, words, norms[0].num_channels if norms else 0, *none, _count(tower)]
    on = "box tower" if head.quality_on == "regression" else "class tower"
    outputs = (("classes", head.class_logits, "class tower"), ("l, t, r, b", head.box, "box tower"),
               ("quality", head.quality, on))  # fmt: skip
    for name, conv, source in outputs:
        if conv is not None:
            yield [name, source, _kernel(conv), conv.out_channels, *none, _count(conv)]


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _kernel(module: nn.Module) -> str:
    """ "3 × 3 conv, stride 2": the convolution that a module is or holds."""
    conv: Any = next((m for m in module.modules() if hasattr(m, "kernel_size")), module)
    kernel, stride = (side[0] if isinstance(side, tuple) else side for side in (conv.kernel_size, conv.stride))
    return f"{kernel} × {kernel} conv" + (f", stride {stride}" if stride > 1 else "")


def _blocks(modules: list[nn.Module]) -> str:
    """What a stage of the backbone is: its blocks, or the convolution of the stem."""
    parts = [m for module in modules for m in (module.children() if isinstance(module, nn.Sequential) else [module])]
    names = Counter(
        _kernel(m) if isinstance(m, nn.Conv2d) else type(m).__name__
        for m in parts
        if not isinstance(m, (nn.ReLU, nn.MaxPool2d)) and "Norm" not in type(m).__name__
    )
    return ", ".join(name if n == 1 else f"{n} × {name}" for name, n in names.items())


def network(table: pd.DataFrame) -> Picture:
    """Backbone, pyramid and head, from `network_table`: every arrow is a source, every number a column."""
    maps, head = table[table["part"] != "head"], table[table["part"] == "head"]
    at = zip(maps["name"], maps["part"], maps["stride"].map(log2).round(), strict=True)
    place: dict[str, Place] = {name: (FILLS[part][0], y, 1.75) for name, part, y in at}
    levels = [y for name, (_, y, _) in place.items() if name.startswith("P")]
    heights = [y for _, y, _ in place.values()]
    for i, tower in enumerate(head.loc[head["sources"] == EVERY, "name"]):
        x, y = FILLS["head"][0], (min(heights) + max(heights)) / 2 + 1.35 - 2.7 * i
        place[tower] = (x, y, 2.9)
        outputs = head.loc[head["sources"] == tower, "name"]
        place |= {name: (x + beside(len(outputs), k, 1.5), y - 1.05, 1.4) for k, name in enumerate(outputs)}
    with drawing(4.3, caption("network", **table.attrs, **maps.iloc[0][["height", "width"]])) as figure:
        ax = figure.subplots()
        ax.axis("off")
        ax.hlines(levels, place["P3"][0] + 1.75 / 2, BUS, color=FAINT, lw=1.4, zorder=0)
        ends = [*levels, *(place[name][1] for name in head.loc[head["sources"] == EVERY, "name"])]
        ax.vlines(BUS, min(ends), max(ends), color=FAINT, lw=1.4, zorder=0)
        for row in table.itertuples(index=False):
            x, y, wide = block = place[row.name]
            _box(ax, block, row)
            if row.part == "head":
                _arrow(ax, (BUS, y, 0) if row.sources == EVERY else (x, place[row.sources][1], wide), block)
            else:
                for source in row.sources.split():
                    _arrow(ax, place[source], block)
        for x, text in ((0.0, "backbone"), (2.55, "pyramid"), (5.7, "head, shared by the levels")):
            ax.text(x, max(heights) + 0.75, text, weight="bold", ha="center", fontsize=9)
        ax.set(xlim=(-1, 7.35), ylim=(-0.55, max(heights) + 1))
    return figure


def _box(ax: Any, place: Place, row: Any) -> None:
    """A rounded box with what a row of the table says."""
    (x, y, wide), numbers = place, f" · {_millions(row.parameters)}" if row.parameters else ""
    corner, colour = (x - wide / 2, y - HIGH / 2), FILLS[row.part][1]
    shape: Any = {"boxstyle": "round,pad=0,rounding_size=0.08", "fc": colour, "ec": SOFT, "lw": 0.8}
    ax.add_patch(FancyBboxPatch(corner, wide, HIGH, **shape))
    lines = [f"{row.name}: {row.operation}", f"{row.channels} channels{numbers}"]
    if row.part != "head":
        ax.text(x - wide / 2 + 0.07, y, row.name, weight="bold", va="center", fontsize=8)
        lines = [f"{row.channels} × {row.height} × {row.width}", f"stride {row.stride}{numbers}"]
    if row.name in ("classes", "l, t, r, b", "quality"):
        lines = [f"{row.name}: {row.channels} channels", f"{row.operation}{numbers}"]
    for text, colour, up in zip(lines, (INK, SOFT), (0.14, -0.15), strict=True):
        ax.text(x + wide / 2 - 0.07, y + up, text, va="center", ha="right", fontsize=6.3, color=colour)


def _arrow(ax: Any, a: Place, b: Place) -> None:
    """Sideways between columns, upwards or downwards within one."""
    if a[0] == b[0]:
        step = copysign(HIGH / 2, b[1] - a[1])
        start, end = (a[0], a[1] + step), (b[0], b[1] - step)
    else:
        start, end = (a[0] + a[2] / 2, a[1]), (b[0] - b[2] / 2, b[1])
    look = {"arrowstyle": "-|>", "color": SOFT, "lw": 0.9, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7}
    ax.annotate("", end, start, arrowprops=look)


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"
