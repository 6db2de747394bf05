"""A folder in memory for scenarios: their ledgers sync thousands of times."""

import os
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(tmp_path_factory):
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path_factory.mktemp("run")
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)
