"""Lets the attacks share what the tests of identity, of the hub and of scenarios have."""

import sys
from pathlib import Path

import pytest
from tiny import folder_in_memory

from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "wire", HERE.parent / "engines" / "hub"):
    sys.path.insert(0, str(folder))


@pytest.fixture
def tmp_path(tmp_path_factory):
    yield from folder_in_memory(tmp_path_factory)


@pytest.fixture(scope="module")
def pool():
    pool = WorkerPool(answer_request, num_workers=2)
    yield pool
    pool.close()
