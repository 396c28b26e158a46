"""docs/robustness.md says what the tests hold, no more and no less."""

from robustness import KINDS, PAGE, marked, page


def test_the_page_is_that_of_the_tests():
    assert PAGE.read_text(encoding="utf-8") == page(), "python tests/robustness.py"


def test_every_kind_is_held_by_tests():
    rows = list(marked())
    assert {kind for kind, *_ in rows} == set(KINDS)
    assert len({words for _, words, *_ in rows}) == len(rows), "one sentence, one test"
