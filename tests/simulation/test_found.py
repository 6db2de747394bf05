"""What the simulation found in the product once, each mended; the worlds that showed it."""

from pathlib import Path

import pytest
from faults import CENTRE, Fault, Scenario, scenario_of

from hospitium.state import durable
from hospitium.state.spares import Spares
from hospitium.state.unfinished import MIN_CHUNK_BYTES, Shape
from hospitium.state.uploads import Uploads
from simulation import require_holds, simulate

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="what was synced is read from /proc"
)


@needs_proc
def test_an_old_task_that_is_played_again_does_not_end_a_sites_part_in_the_run():
    faults = (
        Fault(kind="duplicate", amount=0.069),
        Fault(kind="replay", amount=0.196),
        Fault(kind="delay", amount=17.9),
    )
    outcome = simulate(Scenario(seed=267, must_end=True, faults=faults))
    require_holds(outcome)
    assert outcome.is_finished
    assert not any("record is not the one" in line for line in outcome.told)


@needs_proc
@pytest.mark.parametrize("number", [60, 63, 66])
def test_a_power_cut_while_an_upload_begins_lets_it_begin_anew(number):
    fault = Fault(kind="power_cut", who=CENTRE, amount=number, for_s=1.0)
    outcome = simulate(Scenario(seed=68, must_end=True, faults=(fault,)))
    require_holds(outcome)
    assert outcome.is_finished


def test_the_notes_of_an_upload_are_whole_or_not_there(tmp_path, monkeypatch):
    shape, data = Shape(total_bytes=5, chunk_bytes=MIN_CHUNK_BYTES), b"hello"
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

    def crash(point):
        if point == "before rename":
            raise KeyboardInterrupt

    monkeypatch.setattr(durable, "on_write_point", crash)
    with pytest.raises(KeyboardInterrupt):
        Uploads(tmp_path, spares=Spares(tmp_path, most=0)).put(
            "oslo", digest, shape, 0, [data], sha256=bytes.fromhex(digest)
        )
    monkeypatch.setattr(durable, "on_write_point", None)
    again = Uploads(tmp_path, spares=Spares(tmp_path, most=0))
    assert again.chunks("oslo", digest) is None
    again.put("oslo", digest, shape, 0, [data], sha256=bytes.fromhex(digest))
    assert again.finish("oslo", digest) == digest


@needs_proc
@pytest.mark.parametrize("seed", [301_109, 304_070])
def test_of_two_coordinators_one_cannot_close_a_round_with_whom_the_other_has_struck(seed):
    """Without locks: one leaves a revoked site out, the other has added it up before."""
    assert "second" in {fault.kind for fault in scenario_of(seed).faults}
    require_holds(simulate(seed))


@pytest.mark.parametrize("seed", [2129, 6925])
def test_what_the_simulation_itself_had_wrong_is_no_fault_of_the_product(seed):
    """A false model went over the true one; a round closed before a crash seemed closed late."""
    require_holds(simulate(seed))


@needs_proc
def test_a_hub_whose_folder_is_lost_while_its_disk_is_full_is_made_anew_whole():
    """Its uploads were still those of the folder that was gone: one site's could never go on."""
    kinds = {fault.kind for fault in scenario_of(15_444).faults}
    assert {"lost_store", "full"} <= kinds
    outcome = simulate(15_444)
    require_holds(outcome)
    assert outcome.is_finished
