import csv

import pytest

from hospitium.errors import UsageError
from hospitium.operations.phantoms import KINDS, PhantomOptions, sites_of, write
from hospitium.operations.progress import silent


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_is_what_is_written(tmp_path, kind):
    said = write(tmp_path / "a", PhantomOptions(kind=kind, cases=4, size=64), say=silent)
    with (tmp_path / "a" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert said["cases"] == len(rows) == 4 and said["kind"] == kind
    assert sum(said["sites"].values()) == sum(said["classes"].values()) == 4
    assert all((tmp_path / "a" / row["image"]).exists() for row in rows)


def test_awkward_studies_come_on_top_and_are_counted(tmp_path):
    options = PhantomOptions(cases=4, size=64, awkward=0.5)
    said = write(tmp_path / "a", options, say=silent)
    assert (said["cases"], said["awkward"]) == (6, 2)


def test_hospitals_take_the_vendors_in_turn_and_a_second_one_has_a_number():
    names = [site.site_id for site in sites_of(PhantomOptions(sites=6))]
    assert names == ["ashby", "brindle", "carrow", "dunmore", "ashby-2", "brindle-2"]
    chosen = sites_of(PhantomOptions(vendors=("cedar", "Cedar")))
    assert [(site.site_id, site.vendor) for site in chosen] == [
        ("carrow", "Cedar"),
        ("carrow-2", "Cedar"),
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "foot"}, "--kind"),
        ({"sites": 2, "vendors": ("Alder",)}, "both"),
        ({"sites": 0}, "--sites"),
        ({"vendors": ("Elm",)}, "Elm"),
        ({"cases": 0}, "1 or more"),
        ({"kind": "mr", "awkward": 0.1}, "radiographs"),
    ],
)
def test_options_without_a_meaning_are_refused_and_nothing_is_written(tmp_path, changes, said):
    with pytest.raises(UsageError, match=said):
        write(tmp_path / "a", PhantomOptions(**changes), say=silent)
    assert not (tmp_path / "a").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write(tmp_path, PhantomOptions(cases=1, size=64), say=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
