import pytest
from audited import record
from tiny import folder_in_memory

from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool


@pytest.fixture
def tmp_path(tmp_path_factory):
    yield from folder_in_memory(tmp_path_factory)


@pytest.fixture(scope="module")
def pool():
    pool = WorkerPool(answer_request, num_workers=2)
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """A run of two sites and a coordinator with the records of all; not to be changed."""
    return record(tmp_path_factory.mktemp("recorded"))
