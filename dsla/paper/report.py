"""A report as one HTML file: text, tables and figures inside it, nothing loaded from anywhere.

Read on a phone or a desktop, light or dark. Equal content gives equal bytes: no dates, no times.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ..coco.results import number
from ..plots.style import Picture, picture_bytes
from .claims import CONTRADICTED, NOT_SEEN, SEEN, Finding

MIME = {"svg": "image/svg+xml", "png": "image/png"}
MARKS = {SEEN: "✓", NOT_SEEN: "○", CONTRADICTED: "✗"}


@dataclass(frozen=True)
class Text:
    """A paragraph; plain text."""

    text: str
    kind: str = "p"

    def html(self) -> str:
        return f"<{self.kind}>{html.escape(self.text)}</{self.kind}>"


@dataclass(frozen=True)
class Chart:
    """A drawn figure with its caption; "svg" for line art, "png" for photographs. `file` names it on the page."""

    title: str
    caption: str
    data: bytes
    kind: str = "svg"
    file: str = ""

    @classmethod
    def of(cls, figure: Picture, title: str, kind: str = "svg", file: str = "") -> Chart:
        return cls(title, figure.caption, picture_bytes(figure, kind), kind, file)

    def html(self) -> str:
        data = base64.b64encode(self.data).decode()
        title, caption = html.escape(self.title), html.escape(self.caption)
        beside = f' <span class="file">{html.escape(self.file)}</span>' if self.file else ""
        return (
            f'<figure><div><img alt="{title}. {caption}" src="data:{MIME[self.kind]};base64,{data}"></div>'
            f"<figcaption><b>{title}.</b> {caption}{beside}</figcaption></figure>"
        )


@dataclass(frozen=True)
class Grid:
    """A table; `definitions` explain its rows or columns by name and fold away below it.

    show: value of a row (by its index) → text; by default three digits, n/a where undefined.
    """

    frame: pd.DataFrame
    caption: str
    definitions: Mapping[str, str] = field(default_factory=dict)
    show: Callable[[str, object], str] | None = None

    def html(self) -> str:
        show = self.show or (lambda _, value: number(value))
        head = "".join(f'<th scope="col">{html.escape(str(c))}</th>' for c in self.frame.columns)
        corner = html.escape(str(self.frame.index.name or ""))
        rows = []
        for index, row in zip(self.frame.index, self.frame.itertuples(index=False), strict=True):
            cells = "".join(f"<td>{html.escape(_text(show, str(index), v))}</td>" for v in row)
            rows.append(f'<tr><th scope="row">{html.escape(str(index))}</th>{cells}</tr>')
        table = f"<table><caption>{html.escape(self.caption)}</caption><thead><tr><th>{corner}</th>{head}</tr></thead>"
        table = f'<div class="scroll">{table}<tbody>{"".join(rows)}</tbody></table></div>'
        return table + (_definitions("What the rows mean", self.definitions) if self.definitions else "")


@dataclass(frozen=True)
class Verdicts:
    """Claims with what was measured."""

    findings: Sequence[Finding]

    def html(self) -> str:
        rows = []
        for f in self.findings:
            said = f.verdict + (", one seed" if f.seeds == 1 else "")
            chip = f'<span class="chip {_slug(f.verdict)}">{MARKS.get(f.verdict, "–")} {html.escape(said)}</span>'
            published = f" Published: {html.escape(f.claim.published)}." if f.claim.published else ""
            rows.append(
                f'<div class="claim"><div>{chip}</div><div><b>{html.escape(f.claim.text)}.</b> '
                f'{html.escape(f.sentence)} <span class="file">{published}</span></div></div>'
            )
        return f'<div class="claims">{"".join(rows)}</div>'


@dataclass(frozen=True)
class Glossary:
    """Words and what they mean."""

    words: Mapping[str, str]

    def html(self) -> str:
        return "<dl>" + _terms(self.words) + "</dl>"


Block = Text | Chart | Grid | Verdicts | Glossary


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]

    def html(self) -> str:
        body = "\n".join(block.html() for block in self.blocks)
        return f'<section id="{_slug(self.title)}"><h2>{html.escape(self.title)}</h2>\n{body}\n</section>'


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole file."""
    links = " · ".join(f'<a href="#{_slug(s.title)}">{html.escape(s.title)}</a>' for s in sections)
    body = "\n".join(section.html() for section in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body><main><h1>{html.escape(title)}</h1>\n"
        f'<p class="lead">{html.escape(lead)}</p>\n<nav>{links}</nav>\n{body}\n</main></body></html>\n'
    )


def write_page(path: str | Path, title: str, lead: str, sections: Sequence[Section]) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(title, lead, sections), encoding="utf-8")
    return path


def _text(show: Callable[[str, object], str], index: str, value: object) -> str:
    if isinstance(value, str):
        return value
    return "n/a" if value is None or (isinstance(value, float) and math.isnan(value)) else show(index, value)


def _definitions(title: str, words: Mapping[str, str]) -> str:
    return f"<details><summary>{html.escape(title)}</summary><dl>{_terms(words)}</dl></details>"


def _terms(words: Mapping[str, str]) -> str:
    return "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in words.items())


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-")


STYLE = """
:root{--ink:#1f2430;--soft:#5b6472;--page:#fbfbf9;--card:#fff;--line:#dfe3ea;--seen:#12664f;--not:#6b5a12;--no:#9b2226}
@media (prefers-color-scheme:dark){:root{--ink:#e7e9ee;--soft:#a3acba;--page:#14171c;--card:#1d2128;--line:#343b46;
--seen:#63d1ae;--not:#e2c15a;--no:#ff8f8f}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:56rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 .8rem}
h2{font-size:1.25rem;margin:2.6rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--line)}
h3{font-size:1.02rem;margin:1.6rem 0 .4rem}
.lead{font-size:1.08rem}
nav{font-size:.9rem;color:var(--soft)}
a{color:inherit}
figure{margin:1.4rem 0}
figure img{display:block;width:100%;height:auto;padding:6px}
figure img{background:#fff;border:1px solid var(--line);border-radius:8px}
figcaption,caption{font-size:.88rem;color:var(--soft);text-align:left;padding:.4rem 0}
figcaption b{color:var(--ink)}
.file{color:var(--soft);font-size:.85em}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;min-width:60%}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap;
font-variant-numeric:tabular-nums}
th[scope=row],thead th:first-child{text-align:left;font-weight:500}
details{margin:.3rem 0 1rem;font-size:.9rem}
summary{cursor:pointer;color:var(--soft)}
dt{font-weight:600;margin-top:.5rem}
dd{margin:0 0 .2rem;color:var(--soft)}
.claim{display:grid;grid-template-columns:14rem 1fr;gap:.8rem;padding:.7rem 0;border-bottom:1px solid var(--line)}
.chip{display:inline-block;padding:.1rem .55rem;border:1.5px solid;border-radius:1rem;font-size:.82rem;font-weight:600;
white-space:nowrap;color:var(--soft)}
.chip.seen{color:var(--seen)}.chip.not-seen-here{color:var(--not)}.chip.contradicted{color:var(--no)}
@media (max-width:34rem){.claim{grid-template-columns:1fr;gap:.3rem}body{font-size:15px}
h1{font-size:1.4rem}figure>div{overflow-x:auto}figure img{padding:2px;min-width:36rem}}
@media print{body{background:#fff;color:#000}nav{display:none}}
""".strip()
