"""Where the machines of the survival tests are found."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engines" / "hub"))
sys.path.insert(0, str(Path(__file__).parents[1] / "survival"))
sys.path.insert(0, str(Path(__file__).parent))

from tiny import folder_in_memory


@pytest.fixture
def tmp_path(tmp_path_factory):
    yield from folder_in_memory(tmp_path_factory)
