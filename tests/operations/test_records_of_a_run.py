"""After a whole run between machines the records of all sides hold, and hold together."""

import pytest
from audited import load_verifier
from between_machines import Between, wait_for

from hospitium.operations.audit_bundles import run_bundle, site_bundle, write_bundle
from hospitium.operations.auditing import verify_bundles

SITES = ["bergen", "oslo"]


@pytest.mark.ci
def test_the_records_of_a_whole_run_hold_together_for_us_and_for_the_verifier(tmp_path, pool):
    with Between(tmp_path, pool, site_ids=SITES) as two:
        two.up()
        plan = two.offer()
        two.approve(plan, *SITES)
        two.attend(*SITES)
        folder = two.start(plan, has_canary=True)
        two.finished()
        wait_for(lambda: list((folder / "notes").glob("*.note")))
    homes = [two.federation.site(site_id) for site_id in SITES]
    bundles = [
        *(site_bundle(home, None) for home in homes),
        *(run_bundle(two.home, run_id) for run_id in ("study", "study-canary")),
    ]
    assert verify_bundles(bundles) == []
    paths = [tmp_path / f"{n}.jsonl" for n in range(len(bundles))]
    for rows, path in zip(bundles, paths, strict=True):
        write_bundle(rows, path)
    read = load_verifier().verified([str(path) for path in paths])
    assert [bundle.found for bundle in read] == [[], [], [], []]
    kinds = {leaf["kind"] for leaf in read[0].leaves}
    assert {"enrolment", "approval", "update", "cosignature"} <= kinds
    assert {leaf["run_id"] for leaf in read[0].leaves if leaf["kind"] == "update"} == {
        "study", "study-canary",
    }  # fmt: skip
    taken = [leaf for leaf in read[0].leaves if leaf["n"] in read[0].taken]
    assert {leaf["kind"] for leaf in taken} >= {"approval", "update", "scores"}
