"""A hospital with cases on disk, and the task it is asked."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hospitium.imaging.cache import write_cases
from hospitium.imaging.cases import Cases
from hospitium.plan import Plan
from hospitium.plan.schema import ImagingSection, ModelSection, PipelineSection
from hospitium.site.agent import Site
from hospitium.site.consent import Consent
from hospitium.training import trainer_for
from hospitium.types import Task
from hospitium.wire.blob import digest_of

NUM_TRAIN, NUM_VAL = 20, 6


@pytest.fixture
def tmp_path(tmp_path_factory):
    """A folder in memory where there is one: what leaves a site is synced."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path_factory.mktemp("site")
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.fixture
def plan():
    return Plan(
        imaging=ImagingSection(normalise="site", pipeline=PipelineSection(size=(8, 8))),
        model=ModelSection(name="logistic"),
        training=replace(Plan().training, steps=3, batch_size=8, moments="keep"),
    )


@pytest.fixture
def site_for(tmp_path, plan):
    """Return a function that opens a site with these numbers of cases."""

    def make(num_train=NUM_TRAIN, num_val=NUM_VAL, site_id="oslo", agreed=plan):
        draw, total = np.random.default_rng(7), num_train + num_val
        labels = draw.integers(0, 2, total)
        images = draw.uniform(0, 0.6, (total, 1, 8, 8)) + 0.4 * labels[:, None, None, None]
        cases = Cases(
            images=images.astype(np.float32),
            labels=labels,
            subjects=np.array([f"p{number}" for number in range(total)]),
            splits=np.array([0] * num_train + [1] * num_val, np.uint8),
            classes=("normal", "pneumonia"),
        )
        folder = tmp_path / site_id
        write_cases(folder / "cases", cases)
        consent = Consent(plan_digest=agreed.digest, num_cases=num_train)
        return Site(site_id=site_id, cases_folder=folder / "cases", folder=folder, consent=consent)

    return make


@pytest.fixture
def trainer(plan):
    return trainer_for(plan)


@pytest.fixture
def task(plan, trainer):
    params = trainer.first_params()
    return Task(
        run_id="r",
        round_number=1,
        plan_digest=plan.digest,
        params=params,
        base_digest=digest_of(params),
        max_norm=100.0,
    )
