"""Why a point is, or is not, taught by a box: rules with their numbers, and the lines that several methods share."""

import html
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid, aligned_iou
from ..losses import dynamic_target
from .pairs import Pairs, Truth


@dataclass(frozen=True)
class Rule:
    """One rule as it was applied: `text` with the numbers in it, `value`, and whether the point passed.

    `passed` is None for a rule that weighs and does not exclude.
    """

    name: str
    text: str
    value: float
    passed: bool | None = None


@dataclass(frozen=True)
class Explanation:
    """All rules of one assigner for one (point, box).

    Attributes:
        assigner: its name.  point: index in the grid.  xy, level, stride: of the point.
        box: x1, y1, x2, y2.  rules: in the order of the method.  label: what the pair gets, 0 if excluded.
    """

    assigner: str
    point: int
    xy: tuple[float, float]
    level: int
    stride: int
    box: tuple[float, ...]
    rules: tuple[Rule, ...]
    label: float

    @property
    def admitted(self) -> bool:
        """Whether this box may teach this point (another box may still win it)."""
        return self.label > 0

    def __getitem__(self, name: str) -> Rule:
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise KeyError(f"no rule {name!r}; there are {', '.join(r.name for r in self.rules)}")

    @property
    def head(self) -> str:
        box = ", ".join(f"{v:g}" for v in self.box)
        return (
            f"{self.assigner}: point {self.point} at ({self.xy[0]:g}, {self.xy[1]:g}), level {self.level}, "
            f"stride {self.stride}, box ({box})"
        )

    @property
    def verdict(self) -> str:
        if self.admitted:
            taught = "".join(f", taught {r.value:.4g}" for r in self.rules if r.name == "taught label")
            return f"admitted, label {self.label:.4g}{taught}"
        failed = [r.name for r in self.rules if r.passed is False and r.name != "label"]
        return "excluded: " + (", ".join(failed) if failed else "its label is 0")

    def __str__(self) -> str:
        mark = {True: "yes", False: "NO ", None: " · "}
        lines = [f"  [{mark[r.passed]}] {r.name}: {r.text}" for r in self.rules]
        return "\n".join([self.head, *lines, f"  → {self.verdict}"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        mark = {True: "✓", False: "✗", None: "·"}
        rows = "".join(
            f"<tr><td>{mark[r.passed]}</td><td>{html.escape(r.name)}</td><td>{html.escape(r.text)}</td></tr>"
            for r in self.rules
        )
        return f"<p>{html.escape(self.head)}</p><table>{rows}</table><p><b>{html.escape(self.verdict)}</b></p>"


def check_radius(center_sampling: float | None) -> None:
    """Raises a ValueError for a radius of centre sampling that is none."""
    if center_sampling is not None and not center_sampling > 0:
        raise ValueError(f"center_sampling is a radius in strides, above 0, or None; got {center_sampling}")


@dataclass(frozen=True, eq=False)
class Case:
    """One point and one box of which an explanation is wanted.

    Attributes:
        grid: the points.
        point: index in the grid.
        pairs: the point and the box as scalars.
        truth: the box, the first of its image, and those others that were given, as if of its class.
        predictions: of its image alone, if given.
    """

    grid: PointGrid
    point: int
    pairs: Pairs
    truth: Truth
    predictions: HeadOutputs | None

    def alone(self, assigner: Callable[..., Any]) -> float:
        """The label that an assigner gives the pair where the box has no rivals."""
        truth = self.truth
        a = assigner(self.grid, [truth.boxes[:1]], [truth.labels[:1]], self.predictions, image_sizes=truth.sizes)
        return float(a.label[0, self.point])

    def values(self, factors: Callable[[Pairs], dict[str, Tensor]]) -> dict[str, float]:
        """A method's factors for this pair."""
        return {name: float(value) for name, value in factors(self.pairs).items()}


def explained(method: str, case: Case, rules: list[Rule], coupling: str) -> Explanation:
    """Rules of a method, the last one its label, as an explanation; coupled with predictions also what is taught."""
    pairs, sizes = case.pairs, case.truth.sizes
    if sizes is not None and not case.grid.inside(sizes)[0, case.point]:
        height, width = sizes[0].tolist()
        text = f"it lies in the padding, where nothing is learnt: the image ends at x = {width:g}, y = {height:g}"
        rules = [Rule("in the image", text, max(float(pairs.x) - width, float(pairs.y) - height), False), *rules]
    label = 0.0 if any(r.passed is False for r in rules) else rules[-1].value
    if case.predictions is not None and coupling != "off":
        predicted = case.predictions.boxes[0, case.point].float()
        iou = aligned_iou(predicted, case.truth.boxes[0]).cpu()
        taught = float(dynamic_target(torch.tensor(label), iou, coupling)) if label > 0 else 0.0
        what = "background" if label == 0 else "label · IoU" if coupling == "on" else "the IoU"
        rules = [
            *rules,
            Rule("IoU", f"of the predicted box ({numbers(predicted.tolist())}): {iou:.4g}", float(iou)),
            Rule("taught label", f"{what} = {taught:.4g}", taught),
        ]
    xy, box = (float(pairs.x), float(pairs.y)), tuple(map(float, pairs.boxes))
    return Explanation(method, case.point, xy, int(pairs.level), int(pairs.stride), box, tuple(rules), label)


def number(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def numbers(values: Iterable[float]) -> str:
    return ", ".join(number(float(f"{v:.4g}")) for v in values)


def inside_rule(pairs: Pairs, least: float = 0.0) -> Rule:
    """More than `least` pixels inside the box."""
    sides, depth = ", ".join(number(float(d)) for d in pairs.distances), float(pairs.depth)
    text = f"l, t, r, b = {sides}; smallest {number(depth)}, must be > {least:g}"
    return Rule("inside the box", text, depth, depth > least)


def centre_rule(name: str, pairs: Pairs, radius: float) -> Rule:
    """Within a radius in strides of the box's centre, be it in the box or not."""
    dx, dy = (float(d) for d in pairs.from_centre)
    reach = f"must be < {radius:g} strides = {radius * float(pairs.stride):g}"
    return Rule(name, f"|dx| = {dx:g}, |dy| = {dy:g}, {reach}", max(dx, dy), bool(pairs.central(radius)))


def region_rules(pairs: Pairs, center_sampling: float | None = None) -> list[Rule]:
    """Inside the box; inside the centre region."""
    rules = [inside_rule(pairs)]
    if center_sampling is not None:
        rules.append(centre_rule("centre sampling", pairs, center_sampling))
    return rules


def range_text(low: float, high: float) -> str:
    return f"[{low:g}, {'∞' if high >= 1e8 else f'{high:g}'}]"


def range_rule(name: str, symbol: str, value: float, ends: tuple[float, float]) -> Rule:
    """Within the range of the level, both ends included."""
    text = f"{symbol} = {number(value)}, must be in {range_text(*ends)}"
    return Rule(name, text, value, ends[0] <= value <= ends[1])


def value_rules(values: Mapping[str, float]) -> list[Rule]:
    """Factors by name; they weigh and do not exclude."""
    return [Rule(name, f"{value:.4g}", value) for name, value in values.items()]


def label_rule(text: str, label: float) -> Rule:
    return Rule("label", text, label, label > 0)
