import sys
from pathlib import Path

import pytest
from tiny import folder_in_memory

sys.path.insert(0, str(Path(__file__).parent))  # the relay


@pytest.fixture
def tmp_path(tmp_path_factory):
    yield from folder_in_memory(tmp_path_factory)
