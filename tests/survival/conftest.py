"""Failing machines, and the page that their figures go to."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "engines" / "hub"))  # the NATS cluster

from figures import write_page
from machines import Machines
from tiny import folder_in_memory


@pytest.fixture
def tmp_path(tmp_path_factory):
    yield from folder_in_memory(tmp_path_factory)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Three sites and a coordinator that the tests of a module share."""
    folder = folder_in_memory(tmp_path_factory)
    with Machines(next(folder) / "net", ["bergen", "kiel", "oslo"]) as made:
        yield made
    folder.close()


@pytest.fixture
def field(shared):
    """The shared machines, all of them there."""
    return shared.whole()


def pytest_sessionfinish():
    write_page()
