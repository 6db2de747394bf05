"""What a small model learns from phantoms: enough together, less from one vendor for another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool
from hospitium.evaluation.metrics import auroc
from hospitium.imaging.cache import write_cases
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.sources import read_source
from hospitium.operations.demo import DEMO_IMAGING
from hospitium.operations.new_runs import new_run
from hospitium.operations.predicting import CaseFolder, labels_of, predict
from hospitium.operations.running import OnThisMachine, open_ledger, run_to_end
from hospitium.operations.starting import create_run, prepare_site
from hospitium.plan import Plan
from hospitium.state.home import Home
from hospitium.testing.phantoms import write_phantoms
from hospitium.training import trainer_for

SIDE, NUM_SUBJECTS, ROUNDS, SEED = 64, 640, 40, 11
VENDORS = ("alder", "birch", "cedar", "dogwood")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    source = write_phantoms(folder, num_subjects=NUM_SUBJECTS, seed=SEED, size=4 * SIDE)
    return read_source(source, harmonise=Harmonise(size=(SIDE, SIDE)), seed=SEED)


@pytest.fixture(scope="module")
def pool():
    made = WorkerPool(answer_request)
    yield made
    made.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cases, pool):
    """Return a function: train on some cases, return the AUROC on the test cases of others."""
    home = Home(tmp_path_factory.mktemp("home"))
    plan = Plan(name="phantoms", seed=SEED)
    plan = replace(
        plan,
        imaging=replace(DEMO_IMAGING, pipeline=replace(DEMO_IMAGING.pipeline, size=(SIDE, SIDE))),
        training=replace(plan.training, lr=0.002, batch_size=64),
        rounds=replace(plan.rounds, count=ROUNDS, quorum=1),
    )

    def train(name: str, own, *others) -> list[float]:
        with new_run(home, name, out=None) as folder:
            sites = [prepare_site("one", own, folder / "data" / "one")]
            for number, other in enumerate(others):
                write_cases(folder / f"other-{number}", other)
            create_run(folder, run_id=name, plan=plan, sites=sites, facts={})
        run_to_end(folder, engines=OnThisMachine(pool), say=lambda event: None, label=name)
        ledger = open_ledger(folder)
        try:
            params = ledger.store.get(ledger.chosen().digest)
            trainer = trainer_for(ledger.plan)
            places = [
                CaseFolder(cases=folder / f"other-{n}", statistics=folder / "data" / "one")
                for n in range(len(others))
            ]
            return [
                auroc(
                    predict(ledger.plan, trainer, params, place)[:, 1],
                    labels_of(place, "test").labels == 1,
                )
                for place in places
            ]
        finally:
            ledger.close()

    return train


def of_vendor(cases, vendor: str):
    return cases.take(np.char.lower(cases.columns["vendor"].astype(np.str_)) == vendor)


def all_for_test(cases):
    """Return the cases with every one in the test split: a vendor that was never trained on."""
    return replace(cases, splits=np.full_like(cases.splits, 2))


def test_a_small_model_learns_from_all_vendors_together(cases, trained):
    (together,) = trained("pooled", cases, cases)
    assert together >= 0.90


def test_a_model_of_one_vendor_loses_on_the_others(cases, trained):
    parts = {vendor: of_vendor(cases, vendor) for vendor in VENDORS}
    own, *foreign = trained(
        "of-one-vendor",
        parts["alder"],
        parts["alder"],
        *(all_for_test(parts[vendor]) for vendor in VENDORS[1:]),
    )
    assert own - np.mean(foreign) >= 0.05


def test_without_the_polarity_that_the_reader_undoes_a_model_of_all_is_worse(cases, trained):
    is_birch = np.char.lower(cases.columns["vendor"].astype(np.str_)) == "birch"
    images = np.where(is_birch[:, None, None, None], 1 - cases.images, cases.images)
    as_stored = replace(cases, images=images.astype(np.float32))
    (right,) = trained("as-read", cases, of_vendor(cases, "birch"))
    (wrong,) = trained("as-stored", as_stored, of_vendor(as_stored, "birch"))
    assert wrong < right
