"""What all tests share: where the real data sets are, and which tests wait for their target."""

import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent / "scenarios"))

# Two cores are shared by three processes of tests and all that these start: one thread for each.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# To read the system's certificates takes longer than most tests, and no test may trust them.
os.environ["SSL_CERT_FILE"] = os.devnull

# How long an example takes is never what is tested: the machine may be busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = Path(os.environ.get("HOSPITIUM_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data sets are not at {folder} (HOSPITIUM_DATA names another place)")
    return folder


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking what stays to the end: a fifth of all time."""
    gc.collect()
    gc.freeze()
