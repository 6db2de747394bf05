"""Lets the attacks share what the tests of identity, of the hub and of scenarios have."""

import sys
from pathlib import Path

import pytest
from tiny import folder_in_memory

from hospitium.engines.hub.app import Hub
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.office import Office
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


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    from samples import samples

    return samples(tmp_path_factory.mktemp("files"))


@pytest.fixture
def hub(tmp_path):
    """Return a hub with two members, in this process; and how it is asked."""
    from desks import Asking, Centre

    centre = Centre(folder=tmp_path)
    centre.admit("oslo", "turin")
    backend, office = LocalBackend(tmp_path / "hub"), Office(centre.desk)
    made = Hub(backend, members=office.members, key=centre.coordinator, office=office)
    made.backend, made.asking = backend, Asking(app=made.app)
    yield made
    backend.close()
