"""Pages: complete in themselves, escaped, the same bytes twice."""

import ast
import base64
import re
from html.parser import HTMLParser

import jinja2
import nbformat
import numpy as np
import pandas as pd
import pytest

from dsla.errors import visible
from dsla.files import OwnFolder
from dsla.paper import pages
from dsla.paper.claims import Claim, judge
from dsla.paper.pages import Chart, Grid, notebook, page
from dsla.plots.style import picture, picture_bytes, style

VOID = {"meta", "img", "br", "input"}


class Checked(HTMLParser):
    """Collects text, images and anchors; fails on tags that are not closed."""

    def __init__(self):
        super().__init__()
        self.open, self.images, self.ids, self.links, self.text, self.tags = [], [], set(), set(), [], set()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(values)
        if "id" in values:
            self.ids.add(values["id"])
        if "href" in values:
            self.links.add(values["href"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(text):
    checked = Checked()
    checked.feed(text)
    assert checked.open == []
    return checked


TEMPLATE = """
{% extends "page.html" %}
{% from "blocks.html" import section, figure, table, claims, glossary with context %}
{% block lead %}lead{% endblock %}
{% block body %}
{% call section("First: what & why") %}<p>{{ stranger }}</p>{{ claims(findings) }}
{{ figure(charts[0], file=False) }}{% endcall %}
{% call section("Second") %}{{ figure(charts[1]) }}{{ table(grid) }}{% endcall %}
{{ glossary(["IoU"]) }}
{% endblock %}
"""


@pytest.fixture(autouse=True)
def one_more_template(monkeypatch):
    """The package's templates and the one above."""
    environment = pages._templates()
    loader = jinja2.ChoiceLoader([environment.loader, jinja2.DictLoader({"example.html": TEMPLATE})])
    monkeypatch.setattr(environment, "loader", loader)


def drawn():
    with style():
        figure = picture(2, 1)
        figure.subplots().plot([0, 1], [1, 0])
    figure.caption = "a line & a caption"
    table = pd.DataFrame({"x": [0, 1], "y": [1.0, np.nan]})
    return [Chart("line", "Line", figure, table), Chart("dots", "Dots", figure, table, "png")]


def content(stranger="1 < 2"):
    cells = {"FCOS": {"spearman": "0.123", "kendall": "n/a"}, "DSLA <b>": {"spearman": "1.000", "kendall": "2.000"}}
    about = pd.DataFrame({"definition": {"spearman": "of <all>", "kendall": "of some"}})
    row = {"seed": 0, "analysis": "evaluation", "name": "AP"}
    numbers = pd.DataFrame([{"method": "DSLA", "value": 0.4, **row}, {"method": "FCOS", "value": 0.3, **row}])
    claim = Claim("x < y", published="+1.5 AP")
    return {
        "title": "Title & more",
        "stranger": stranger,
        "findings": [judge(claim, numbers)],
        "charts": drawn(),
        "grid": Grid.of("ranking", "A table", cells, lambda m, n: cells[m][n], about),
    }


def made(**changes):
    return page("example.html", **content(**changes))


def test_page_is_complete_in_itself():
    text = made()
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(", re.sub(r"base64,[^\"]+", "", text))
    drawing = drawn()[0].data.decode()
    assert set(re.findall(r"href=\"(.)", drawing)) <= {"#"}  # nothing outside in the pictures either
    checked = parsed(text)
    assert checked.links == {f"#{i}" for i in checked.ids}  # every section is linked, every link has its section
    assert len(checked.links) == 3
    assert "script" not in checked.tags
    assert len(checked.images) == 2
    assert all(image["alt"] for image in checked.images)


def test_images_are_the_figures():
    chart = drawn()[0]
    data = re.search(r"data:image/svg\+xml;base64,([^\"]+)", made()).group(1)
    assert base64.b64decode(data) == chart.data
    assert chart.data.startswith(b"<?xml")
    assert drawn()[1].data.startswith(b"\x89PNG")
    with style():
        figure = picture(2, 1)
    assert Chart("t", "t", figure, chart.table, "png").data == picture_bytes(figure, "png")


def test_text_is_escaped_and_numbers_are_shown():
    text = " ".join(parsed(made()).text)
    assert "1 < 2" in text
    assert "DSLA <b>" in text
    assert "Title & more" in text
    assert "0.123" in text
    assert "n/a" in text
    assert "of <all>" in text
    assert "Spearman, score and IoU" in text  # what a row is called
    assert "undecided, one seed" in text
    assert "AP: DSLA 40.0, FCOS 30.0, difference +10.0 in one seed" in text
    assert "Published: +1.5 AP." in text
    assert "figures/dots.png" in text


@pytest.mark.parametrize(
    ("stranger", "expected"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ('"><img src=x onerror=y>', '"><img src=x onerror=y>'),
        ("a\nb\x1b[31m\x7f", r"a\nb\x1b[31m\x7f"),
        ("evil\u202egpj.exe", r"evil\u202egpj.exe"),
        ("\u00e4\u00a0\u4f60", "\u00e4\u00a0\u4f60"),
        ("{{ 7 * 7 }}", "{{ 7 * 7 }}"),
    ],
)
def test_what_strangers_wrote_is_text(stranger, expected):
    checked = parsed(made(stranger=stranger))
    assert expected in "".join(checked.text)
    assert "script" not in checked.tags
    assert len(checked.images) == 2
    assert visible(stranger, kept="") == expected


def test_same_content_same_bytes():
    assert made() == made()
    assert notebook("t", "about.", drawn()) == notebook("t", "about.", drawn())


def test_read_on_a_phone_and_in_the_dark():
    text = made()
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in text
    assert "prefers-color-scheme:dark" in text
    assert "overflow-x:auto" in text


@pytest.mark.slow
def test_the_notebook_beside_a_page_loads_the_folder(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    for chart in drawn():
        chart.save(OwnFolder(tmp_path))
    (tmp_path / "numbers.csv").write_text("name,value\nAP,n/a\n", encoding="utf-8")
    text = notebook("A title", "About.", drawn())
    made = nbformat.reads(text, as_version=4)
    nbformat.validate(made)
    nbclient.NotebookClient(made, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [o for cell in made.cells if cell.cell_type == "code" for o in cell.outputs]
    assert ast.literal_eval(outputs[0].data["text/plain"]) == {"numbers": (1, 2), "dots": (2, 2), "line": (2, 2)}
    kinds = [kind for o in outputs[1:] for kind in o.data if kind.startswith("image/")]
    assert kinds == ["image/svg+xml", "image/png"]
    assert outputs[2].data["text/plain"] == str(pd.read_csv(tmp_path / "figures" / "line.csv"))
    assert str(tmp_path) not in text
