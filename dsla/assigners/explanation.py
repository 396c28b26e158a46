"""Why a point is, or is not, taught by a box: the rules with their numbers."""

import html
from dataclasses import dataclass, field


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
    box: tuple[float, float, float, float]
    rules: tuple[Rule, ...] = field(default_factory=tuple)
    label: float = 0.0

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
