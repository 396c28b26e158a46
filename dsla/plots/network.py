"""The network as a picture: blocks and shapes are those of a built detector's forward pass, nothing is typed."""

from math import log2
from typing import Any

import pandas as pd
import torch
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from ..models import Detector
from ..models.build import build
from ..recipes.recipe import Recipe
from .style import FAINT, INK, SOFT, Picture, caption, drawing

COLUMNS = ["part", "name", "sources", "operation", "channels", "height", "width", "stride", "parameters"]


def network_table(recipe: Recipe | str, num_classes: int, size: tuple[int, int]) -> pd.DataFrame:
    """One row a map of the network, from a forward pass of shapes alone (torch's meta device).

    Args:
        size: (height, width) of the padded batch, a multiple of the coarsest stride of the backbone.

    Returns:
        part (image, backbone, pyramid, head), name (C3, P3, …), sources (names of the rows it reads), operation (that
        made it), channels, height, width (<NA> in the head, which all levels share), stride, parameters.
    """
    with torch.device("meta"):
        model = build(recipe, num_classes=num_classes).eval()
        batch = torch.empty(1, 3, *size)
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
    rows += _pyramid_rows(model, pyramid, size, max(stages))
    rows += _head_rows(model)
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"height": "Int64", "width": "Int64", "stride": "Int64"})
    frame.attrs = {
        "recipe": model.recipe.name if model.recipe else "",
        "points": outputs.logits.shape[1],
        "parameters": _count(model),
    }
    return frame


def _pyramid_rows(model: Detector, maps: list[Tensor], size: tuple[int, int], coarsest: int) -> list[list[Any]]:
    """Laterals and upsampled sums, then the stride-2 convolutions above them."""
    net: Any = model.pyramid
    levels = [round(log2(size[1] / x.shape[-1])) for x in maps]
    rows: list[list[Any]] = []
    for i, (level, x) in enumerate(zip(levels, maps, strict=True)):
        shape = [*x.shape[1:], 2**level]
        if i < len(net.inner_blocks):
            top = i + 1 == len(net.inner_blocks)
            sources = f"C{level}" if top else f"C{level} P{level + 1}"
            words = f"{_kernel(net.inner_blocks[i])}, {'' if top else '+ upsampled, '}{_kernel(net.layer_blocks[i])}"
            count = _count(net.inner_blocks[i]) + _count(net.layer_blocks[i])
        else:
            conv = (net.extra_blocks.p6, net.extra_blocks.p7)[i - len(net.inner_blocks)]
            below = "P" if level > coarsest + 1 or net.extra_blocks.use_P5 else "C"
            sources, words, count = f"{below}{level - 1}", _kernel(conv), _count(conv)
        rows.append(["pyramid", f"P{level}", sources, words, *shape, count])
    return rows


def _head_rows(model: Detector) -> list[list[Any]]:
    head, none = model.head, [pd.NA, pd.NA, pd.NA]
    every = "every level"
    rows: list[list[Any]] = []
    for name, tower in (("class tower", head.class_tower), ("box tower", head.box_tower)):
        convs = [m for m in tower if hasattr(m, "out_channels") or not isinstance(m, (nn.GroupNorm, nn.ReLU))]
        norms = [m for m in tower if isinstance(m, nn.GroupNorm)]
        words = f"{len(convs)} × ({_kernel(convs[0])}, GroupNorm {norms[0].num_groups}, ReLU)" if convs else "none"
        rows.append(["head", name, every, words, norms[0].num_channels if norms else 0, *none, _count(tower)])
    outputs = [("classes", head.class_logits, "class tower"), ("l, t, r, b", head.box, "box tower")]
    if head.quality is not None:
        outputs.append(("quality", head.quality, "box tower" if head.quality_on == "regression" else "class tower"))
    for name, conv, source in outputs:
        rows.append(["head", name, source, _kernel(conv), conv.out_channels, *none, _count(conv)])
    return rows


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _kernel(module: nn.Module) -> str:
    """ "3 × 3 conv, stride 2": the convolution that a module is or holds."""
    conv: Any = next((m for m in module.modules() if hasattr(m, "kernel_size")), module)
    kernel = conv.kernel_size[0] if isinstance(conv.kernel_size, tuple) else conv.kernel_size
    stride = conv.stride[0] if isinstance(conv.stride, tuple) else conv.stride
    return f"{kernel} × {kernel} conv" + (f", stride {stride}" if stride > 1 else "")


def _blocks(modules: list[nn.Module]) -> str:
    """What a stage of the backbone is: its blocks, or the convolution of the stem."""
    counts: dict[str, int] = {}
    for module in modules:
        inner = list(module.children()) if isinstance(module, nn.Sequential) else [module]
        for m in inner:
            if not isinstance(m, (nn.ReLU, nn.MaxPool2d)) and "Norm" not in type(m).__name__:
                name = _kernel(m) if isinstance(m, nn.Conv2d) else type(m).__name__
                counts[name] = counts.get(name, 0) + 1
    return ", ".join(name if n == 1 else f"{n} × {name}" for name, n in counts.items())


def network(table: pd.DataFrame) -> Picture:
    """Backbone, pyramid and head, from `network_table`: every arrow is a source, every number a column."""
    looks = {"image": "#eceff4", "backbone": "#dbe9f6", "pyramid": "#fbe3cf", "head": "#e3f1e4"}
    x_of = {"image": 0.0, "backbone": 0.0, "pyramid": 2.55}
    wide, high = 1.75, 0.62
    maps = table[table["part"] != "head"].reset_index(drop=True)
    with drawing(4.3) as figure:
        ax = figure.subplots()
        ax.axis("off")
        place: dict[str, tuple[float, float]] = {}
        for row in maps.itertuples(index=False):
            x, y = x_of[row.part], round(log2(row.stride))
            place[row.name] = (x, y)
            shape = f"{row.channels} × {row.height} × {row.width}"
            more = f"stride {row.stride}" + (f" · {_millions(row.parameters)}" if row.parameters else "")
            _box(ax, x, y, wide, high, looks[row.part], row.name, shape, more)
        for row in maps.itertuples(index=False):
            for source in row.sources.split():
                _arrow(ax, place[source], place[row.name], wide, high)
        middle = (min(y for _, y in place.values()) + max(y for _, y in place.values())) / 2
        _head(ax, table[table["part"] == "head"], middle, place, wide, looks["head"])
        top = max(y for _, y in place.values()) + 0.75
        for x, text in ((0.0, "backbone"), (2.55, "pyramid"), (5.7, "head, shared by the levels")):
            ax.text(x, top, text, weight="bold", ha="center", fontsize=9)
        ax.set(xlim=(-1, 7.35), ylim=(-0.55, top + 0.25))
    (height, width), about = maps[["height", "width"]].iloc[0], table.attrs
    about = {"recipe": about["recipe"], "millions": about["parameters"] / 1e6, "points": about["points"]}
    figure.caption = caption("network", height=height, width=width, **about)
    return figure


def _box(ax: Any, x: float, y: float, wide: float, high: float, colour: str, *lines: str) -> None:
    corner = (x - wide / 2, y - high / 2)
    patch = FancyBboxPatch(corner, wide, high, boxstyle="round,pad=0,rounding_size=0.08", fc=colour, ec=SOFT, lw=0.8)
    ax.add_patch(patch)
    first, *rest = lines
    ax.text(x - wide / 2 + 0.07, y, first, weight="bold", va="center", fontsize=8)
    for i, text in enumerate(rest):
        look = {"va": "center", "ha": "right", "fontsize": 6.3, "color": SOFT if i else INK}
        ax.text(x + wide / 2 - 0.07, y + 0.14 - 0.29 * i, text, **look)


def _arrow(ax: Any, a: tuple[float, float], b: tuple[float, float], wide: float, high: float) -> None:
    """Sideways between columns, upwards or downwards within one."""
    if a[0] == b[0]:
        step = high / 2 if b[1] > a[1] else -high / 2
        start, end = (a[0], a[1] + step), (b[0], b[1] - step)
    else:
        start, end = (a[0] + wide / 2, a[1]), (b[0] - wide / 2, b[1])
    look = {"arrowstyle": "-|>", "color": SOFT, "lw": 0.9, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7}
    ax.annotate("", end, start, arrowprops=look)


def _head(ax: Any, rows: pd.DataFrame, middle: float, place: dict[str, tuple[float, float]], wide: float,
          colour: str) -> None:  # fmt: skip
    levels = [p for name, p in place.items() if name.startswith("P")]
    x, width, tall = 5.7, 2.9, 0.62
    towers, outputs = rows[rows["sources"] == "every level"], rows[rows["sources"] != "every level"]
    where = {name: middle + 1.35 - 2.7 * i for i, name in enumerate(towers["name"])}
    bus = 3.85
    for px, py in levels:
        ax.plot([px + wide / 2, bus], [py, py], color=FAINT, lw=1.4, zorder=0)
    ends = [*where.values(), *(y for _, y in levels)]
    ax.plot([bus, bus], [min(ends), max(ends)], color=FAINT, lw=1.4, zorder=0)
    for row in towers.itertuples(index=False):
        y = where[row.name]
        _arrow(ax, (bus - width / 2, y), (x, y), width, tall)
        _box(ax, x, y, width, tall, colour, "", f"{row.name}: {row.operation}",
             f"{row.channels} channels · {_millions(row.parameters)}")  # fmt: skip
        mine = outputs[outputs["sources"] == row.name]
        for i, out in enumerate(mine.itertuples(index=False)):
            ox = x + (i - (len(mine) - 1) / 2) * 1.5
            oy = y - 1.05
            _arrow(ax, (ox, y), (ox, oy), wide, tall)
            _box(ax, ox, oy, 1.4, tall, colour, "", f"{out.name}: {out.channels} channels",
                 f"{out.operation} · {_millions(out.parameters)}")  # fmt: skip


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"
