"""What the page on claims names as evidence is there: pages, test files, plan keys that are off."""

import re

import pytest
from own_code import ROOT

from hospitium.errors import PlanError
from hospitium.plan.checking import check_plan
from hospitium.plan.reading import parse_plan

PAGE = ROOT / "docs" / "concepts" / "claims.md"
TEXT = PAGE.read_text(encoding="utf-8")
ROWS = [line.strip("|").split("|") for line in TEXT.splitlines() if line.startswith('| **"')]


def names_of_tests(path):
    return re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("page", [PAGE, PAGE.with_name("gate.md")], ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists_and_holds_tests(page):
    named = re.findall(r"`(tests/[\w/]+)(?:\.py)?`", page.read_text(encoding="utf-8"))
    assert len(named) >= 5
    for name in named:
        path = ROOT / name
        files = sorted(path.iterdir()) if path.is_dir() else [path.with_suffix(".py")]
        assert files and (
            path.name == "corpus" or any(names_of_tests(f) for f in files if f.suffix == ".py")
        )


def test_every_row_says_what_is_promised_what_is_not_and_where_the_evidence_is():
    assert len(ROWS) >= 12
    for row in ROWS:
        assert len(row) == 4 and all(len(cell.strip()) > 5 for cell in row), row[0]


def test_the_words_of_the_issue_are_answered():
    said = " ".join(row[0] for row in ROWS).lower()
    for word in ("zero risk", "compliance", "impossible", "never leaves", "gdpr", "anonymous"):
        assert word in said


@pytest.mark.parametrize("text", ['[privacy]\nsecure_sums = "on"', '[privacy]\nrecord_dp = "on"'])
def test_what_the_page_calls_not_built_cannot_be_asked_for(text):
    """If this fails, the feature is there: then the page has to say so."""
    with pytest.raises(PlanError):
        check_plan(parse_plan(text))


def test_readme_and_index_lead_to_the_page():
    for name in ("README.md", "docs/index.md"):
        assert "concepts/claims.md" in (ROOT / name).read_text(encoding="utf-8")
