import csv

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_plan

from hospitium.errors import DataError, UsageError
from hospitium.imaging.cache import read_cases
from hospitium.operations.preparing import prepare_run
from hospitium.operations.progress import silent
from hospitium.operations.site_data import add_data_set
from hospitium.operations.site_sources import find_sources, read_sites
from hospitium.plan.writing import to_toml
from hospitium.state.home import Home

HEADS = {"oslo": ("file", "finding"), "bergen": ("image", "label")}


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def exports(tmp_path, home):
    """Two folders of pictures, registered with tables that lie elsewhere."""
    for seed, (name, head) in enumerate(HEADS.items()):
        folder = tmp_path / f"{name}-files"
        folder.mkdir()
        rows = [(f"{n}.png", ("normal", "pneumonia")[n % 2]) for n in range(24)]
        for number, (file, _) in enumerate(rows):
            noise = np.random.default_rng([seed, number]).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(noise).save(folder / file)
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                [head, *rows, ("0.png", "pneumonia"), ("gone.png", "normal")]
            )
        add_data_set(home, name, folder, labels=tmp_path / f"{name}.csv")
    return tmp_path


def sites(place, text):
    (place / "sites.toml").write_text(text, encoding="utf-8")
    return place / "sites.toml"


def begin(place, home, text, *, say=silent):
    (place / "plan.toml").write_text(to_toml(tiny_plan()))
    return prepare_run(
        home, plan_path=place / "plan.toml", sites_path=sites(place, text), run_id="first",
        plugin_path=None, out=None, say=say, command="test",
    )  # fmt: skip


BOTH = '[sites.a]\ndata = "oslo"\n[sites.b]\ndata = "bergen"\n'


def test_sites_name_data_sets_and_nobody_writes_labels_twice(exports, home):
    events = []
    folder = begin(exports, home, BOTH, say=events.append)
    for site_id in ("a", "b"):
        cases = read_cases(folder / "data" / site_id)
        assert len(cases) == 23 and cases.class_counts() == {"normal": 11, "pneumonia": 12}
    told = next(event for event in events if event["kind"] == "partition")
    assert told["text"].startswith("46 cases of 2 sites. Left out: ")
    assert "2 label conflict" in told["text"] and "2 missing file" in told["text"]
    assert [row["site_id"] for row in told["sites"]] == ["a", "b"]
    counts = [event for event in events if event["kind"] == "count"]
    assert counts[-1]["text"] == "images of b read" and counts[-1]["done"] == counts[-1]["of"]


def test_a_data_set_brings_its_files_its_table_and_the_key_of_the_site(exports, home):
    found, path = find_sources(home, read_sites(sites(exports, BOTH.replace("bergen", "oslo.csv"))))
    assert found.data == (exports / "oslo-files").resolve()
    assert found.labels == (exports / "oslo.csv").resolve() and found.key is not None
    assert path.data == (exports / "oslo.csv").resolve()
    assert path.labels is None and path.key is None


def test_columns_of_the_sites_file_are_of_the_data_sets_table(exports, home):
    text = BOTH.replace('data = "oslo"', 'data = "oslo"\nlabel = "diagnosis"')
    with pytest.raises(DataError, match='no column "diagnosis"'):
        begin(exports, home, text)


def test_a_word_that_is_a_data_set_and_another_folder_is_refused(exports, home):
    (exports / "oslo").mkdir()
    with pytest.raises(UsageError, match=r"\./oslo"):
        find_sources(home, read_sites(sites(exports, BOTH)))
    plain, _ = find_sources(home, read_sites(sites(exports, BOTH.replace('"oslo', '"./oslo'))))
    assert plain.data == (exports / "oslo").resolve() and plain.labels is None


def test_a_word_that_is_nothing_names_the_data_sets_that_there_are(exports, home):
    with pytest.raises(DataError, match="Data sets here: bergen, oslo"):
        find_sources(home, read_sites(sites(exports, BOTH.replace("oslo", "olso"))))


def test_files_of_a_data_set_that_are_gone_are_told(exports, home):
    (exports / "oslo-files").rename(exports / "moved")
    with pytest.raises(DataError, match="drive is mounted"):
        find_sources(home, read_sites(sites(exports, BOTH)))


def test_a_word_that_is_no_class_is_named_and_nothing_begins(exports, home):
    table = exports / "oslo.csv"
    table.write_text(table.read_text() + "1.png,PNEUM?\n")
    with pytest.raises(DataError, match=r"'pneum\?' \(1 x\): none of the plan"):
        begin(exports, home, BOTH)
    assert list((home.folder / "runs").iterdir()) == []
