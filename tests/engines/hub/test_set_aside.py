"""A site goes on with a run that it was out of: what was seen is set aside, and it looks anew."""

import pytest
from test_cosigning import centre, fork, found, sites, split  # noqa: F401
from witnesses import RUN, task_of

from hospitium.engines.hub.watched import WatchedRun, stopped_runs


def set_aside(site):
    return WatchedRun(site.folder / RUN).set_aside(site.folder.with_name("set-aside") / RUN)


def test_after_the_coordinator_came_back_from_a_backup_a_site_goes_on(centre, sites, fork):  # noqa: F811
    older = fork()
    for number in (1, 2):
        centre.round(number, sites)
    oslo = sites["oslo"]
    before = (oslo.folder / RUN / "seen.note").read_bytes()
    ask = older.ask(task_of(1))["oslo"]
    assert found(oslo, ask, 1) == "rollback"
    evidence = set_aside(oslo)
    assert stopped_runs(oslo.folder) == [] and evidence.name == "0001"
    assert (evidence / "evidence-task.dsse").read_bytes() == ask.envelope
    assert (evidence / "evidence-seen.note").read_bytes() == before
    for site_id in ("bergen", "turin"):
        set_aside(sites[site_id])
    for number in (1, 2):
        older.round(number, sites)
    assert stopped_runs(oslo.folder) == []


def test_what_does_not_hold_by_itself_ends_it_again(centre, sites, fork):  # noqa: F811
    split(centre, sites, fork())
    ask, oslo = centre.ask(task_of(2))["oslo"], sites["oslo"]
    for name in ("0001", "0002"):
        assert found(oslo, ask, 2) == "split"
        assert set_aside(oslo).name == name
    assert found(oslo, ask, 2) == "split"


@pytest.mark.parametrize("data", [b"", b"{"])
def test_a_damaged_note_does_not_keep_a_site_out_for_ever(tmp_path, data):
    watched = WatchedRun(tmp_path / "watch" / RUN)
    watched.folder.mkdir(parents=True)
    (watched.folder / "stopped.json").write_bytes(data)
    place = watched.set_aside(tmp_path / "aside")
    assert watched.stopped() is None and (place / "stopped.json").read_bytes() == data
