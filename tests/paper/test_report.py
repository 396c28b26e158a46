"""The report page: complete in itself, escaped, the same bytes twice."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd

from dsla.paper.claims import Claim, judge
from dsla.paper.report import Chart, Glossary, Grid, Section, Text, Verdicts, page, write_page
from dsla.plots.style import picture, picture_bytes, style

VOID = {"meta", "img", "br"}


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


def example():
    with style():
        figure = picture(2, 1)
        figure.subplots().plot([0, 1], [1, 0])
    figure.caption = "a line & a caption"
    frame = pd.DataFrame({"FCOS": [0.123456, np.nan], "DSLA <b>": [1.0, 2.0]}, index=pd.Index(["share", "none"]))
    row = {"seed": 0, "analysis": "evaluation", "name": "AP"}
    numbers = pd.DataFrame([{"method": "DSLA", "value": 0.4, **row}, {"method": "FCOS", "value": 0.3, **row}])
    claim = Claim("x < y", "evaluation", "AP", published="+1.5 AP")
    return [
        Section(
            "First: what & why", [Text("1 < 2"), Verdicts([judge(claim, numbers)]), Chart.of(figure, "Line", "svg")]
        ),
        Section(
            "Second",
            [Chart.of(figure, "Dots", "png", "figures/dots.png"), Grid(frame, "A table", {"share": "of <all>"})],
        ),
        Section("Words", [Glossary({"IoU": "overlap"})]),
    ]


def test_page_is_complete_in_itself():
    text = page("Title & more", "lead", example())
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(", re.sub(r"base64,[^\"]+", "", text))
    drawing = example()[0].blocks[2].data.decode()
    assert set(re.findall(r"href=\"(.)", drawing)) <= {"#"}  # nothing outside in the pictures either
    checked = parsed(text)
    assert checked.links == {f"#{i}" for i in checked.ids}  # every section is linked, every link has its section
    assert "script" not in checked.tags
    assert len(checked.images) == 2
    assert all(image["alt"] for image in checked.images)


def test_images_are_the_figures():
    chart = example()[0].blocks[2]
    data = re.search(r"data:image/svg\+xml;base64,([^\"]+)", chart.html()).group(1)
    assert base64.b64decode(data) == chart.data
    assert chart.data.startswith(b"<?xml")
    assert example()[1].blocks[0].data.startswith(b"\x89PNG")
    with style():
        figure = picture(2, 1)
    assert Chart.of(figure, "t", "png").data == picture_bytes(figure, "png")


def test_text_is_escaped_and_numbers_are_shown():
    text = page("Title & more", "lead", example())
    said = " ".join(parsed(text).text)
    assert "1 < 2" in said
    assert "DSLA <b>" in said
    assert "Title & more" in said
    assert "0.123" in said
    assert "n/a" in said
    assert "of <all>" in said
    assert "seen, one seed" in said
    assert "AP: DSLA 40.0, FCOS 30.0, difference +10.0 in one seed" in said
    assert "Published: +1.5 AP." in said
    assert "figures/dots.png" in said


def test_same_content_same_bytes(tmp_path):
    first = write_page(tmp_path / "a" / "report.html", "t", "l", example()).read_bytes()
    second = write_page(tmp_path / "b.html", "t", "l", example()).read_bytes()
    assert first == second


def test_read_on_a_phone_and_in_the_dark():
    text = page("t", "l", [])
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in text
    assert "prefers-color-scheme:dark" in text
    assert "overflow-x:auto" in text
