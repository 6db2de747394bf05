"""From a hospital's data to the approval of a plan, on exactly these cases."""

from dataclasses import replace

import pytest
from carried import NAME, NOW, POLICY, Federation
from PIL import Image
from tiny import images_of, write_npz

from hospitium.errors import DataError, ReaderError, TrustError, UsageError
from hospitium.imaging.cache import read_facts
from hospitium.imaging.fingerprint.reader import expected_reader
from hospitium.operations import admission
from hospitium.operations.approving import approve_data
from hospitium.operations.site_data import add_data_set

KARI, OLA = "Kari Nordmann", "Ola Nordmann"


@pytest.fixture
def north(tmp_path):
    found = Federation(folder=tmp_path).begin()
    for site_id in ("oslo", "bergen"):
        found.admit(site_id)
    found.carry("oslo")
    set_policy(found)
    return found


def set_policy(north, *, needed=1):
    text = POLICY.format(needed=needed) + "[isolation]\nrequired = false\n"
    north.place("oslo").folder.joinpath("policy.toml").write_text(text)


def agree(north, plan, data, *, approver=KARI):
    return approve_data(
        north.site("oslo"), NAME, plan.digest[:8], approver=approver, data=data, now=NOW
    )


def test_data_are_prepared_beside_the_approval_that_names_them(north):
    plan, place = north.offer("oslo"), north.place("oslo")
    found = agree(north, plan, str(write_npz(north.folder / "tiny.npz")))
    [approval] = place.standing(plan.digest)
    facts = read_facts(place.cases(plan.digest))
    assert found["num_cases"] == approval.num_cases == sum(facts.splits["train"].values()) == 96
    assert approval.cohort_digest == facts.digest
    assert approval.isolation in ("cut_off", "not_cut_off")
    assert place.cases(plan.digest).resolve().is_relative_to(place.folder.resolve())


def test_the_second_person_approves_what_the_first_one_prepared(north):
    set_policy(north, needed=2)
    plan = north.offer("oslo")
    with pytest.raises(UsageError, match="on which data"):
        agree(north, plan, None)
    assert agree(north, plan, str(write_npz(north.folder / "t.npz")))["state"] == "partly approved"
    assert agree(north, plan, None, approver=OLA)["state"] == "approved"


def test_a_data_set_is_named_by_its_name(north):
    folder = north.folder / "pictures"
    folder.mkdir()
    images, labels = images_of(60, seed=3, size=16)
    rows = ["image,label,subject"]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{('normal', 'pneumonia')[label]},s{number}")
    (folder / "labels.csv").write_text("\n".join(rows))
    plan = north.offer("oslo")
    with pytest.raises(DataError, match="no data set has this name"):
        agree(north, plan, "xray")
    add_data_set(north.site("oslo"), "xray", folder)
    assert 30 <= agree(north, plan, "xray")["num_cases"] < 60


def test_a_person_who_may_not_approve_is_told_before_anything_is_read(north):
    plan = north.offer("oslo")
    with pytest.raises(TrustError, match="not named in"):
        agree(north, plan, "no such file", approver="Nobody")


def test_a_reader_that_gives_other_numbers_may_not_approve(north, monkeypatch):
    plan = north.offer("oslo")
    first, *others = expected_reader().series
    other = replace(expected_reader(), series=(replace(first, physical="0" * 64), *others))
    monkeypatch.setattr(admission, "this_reader", lambda: other)
    with pytest.raises(ReaderError):
        agree(north, plan, str(write_npz(north.folder / "tiny.npz")))
    assert north.place("oslo").said(plan.digest) == []
