"""Every TOML, JSON and Python snippet of a page is what it says."""

import json
import tomllib

import pytest
from pages import DOCS, all_blocks, name_of

from hospitium.imaging.sources.pacs import parse_pacs_settings
from hospitium.operations.cohorts import parse_rules
from hospitium.operations.site_sources import read_sites
from hospitium.plan import parse_plan
from hospitium.site.policy import parse_policy

PLUGIN = DOCS / "tutorial" / "own_model_plugin.py"


def label(block):
    return f"{name_of(block.page)}:{block.text.splitlines()[0]}"


@pytest.mark.parametrize("block", all_blocks("toml"), ids=label)
def test_toml_is_a_plan_a_sites_file_or_a_policy(block, tmp_path):
    table = tomllib.loads(block.text)
    if "sites" in table:
        path = tmp_path / "sites.toml"
        path.write_text(block.text)
        assert [site.site_id for site in read_sites(path)] == list(table["sites"])
    elif "our_ae_title" in table or "url" in table:
        assert parse_pacs_settings(block.text).kind == table["kind"]
    elif "approval" in table:
        assert all(vars(parse_policy(block.text).agreement).values())
    elif "body_parts" in table:
        (tmp_path / "words.csv").write_text("local,name\nThorax,chest frontal\n")
        assert parse_rules(block.text, folder=tmp_path).body_parts == tuple(table["body_parts"])
    elif "half_step" not in block.text:  # test_tutorial.py checks it, with its plug-in
        parse_plan(block.text)


@pytest.mark.parametrize("block", all_blocks("json"), ids=label)
def test_json_reads(block):
    json.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("python"), ids=label)
def test_python_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, label(block), "exec"), {"__name__": "snippet"})


def test_the_snippet_of_the_plug_in_is_that_of_the_file():
    snippets = [block.text for block in all_blocks("python") if "def register" in block.text]
    file = "".join(
        line for line in PLUGIN.read_text().splitlines(keepends=True) if '"""' not in line
    )
    assert snippets
    assert all(snippet in file for snippet in snippets)


def test_every_block_says_its_language():
    named = {"bash", "console", "bat", "toml", "json", "python", "text"}
    assert not all_blocks("")
    assert len(all_blocks(*named)) > 20
