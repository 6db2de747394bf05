"""Links lead somewhere, words are ours, and no page names a place on somebody's machine."""

import re

import pytest
from pages import DOCS, PAGES, links, name_of, prose

RESULTS = DOCS / "results"
NOT_OURS = (
    *("client", "clients", "node", "nodes", "party", "parties", "collaboration"),
    *("strategy", "workflow", "controller", "iteration", "iterations", "experiment"),
    *("hyperparameter", "experiments", "cohort of sites"),
)
"""Words of the "not" column of our vocabulary that have no other meaning in these pages."""
PLACES = re.compile(r"(?<![\w.:/~])/(?:work|home|root|tmp|mnt|Users|usr|opt|var)/|\b[A-Z]:\\")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_internal_link_resolves(page):
    for target in links(page):
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        path = (page.parent / target.split("#")[0]).resolve()
        if path.parent == RESULTS and not path.exists():
            pytest.skip(f"{name_of(path)} is not written yet: scripts/pneumonia.py writes it")
        assert path.exists(), f"{name_of(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_words_are_ours(page):
    text = prose(page).lower()
    for name in ("dicomweb-client", "hub/client.py"):  # a package and a file are called so
        text = text.replace(name, "")
    words = set(re.findall(r"[a-z]+", text))
    assert not words & set(NOT_OURS)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_place_on_a_machine(page):
    assert not PLACES.search(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != RESULTS], ids=name_of)
def test_a_page_begins_with_its_title(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert next(line for line in lines if not line.startswith("<!--")).startswith("# ")
