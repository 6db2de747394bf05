import pytest
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
