"""What the tests of sources share: phantoms, a site key, an Orthanc and a PACS that misbehaves."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_dicomweb import FakeDicomweb
from orthanc import Orthanc, why_not

from hospitium.imaging.identity import SiteKey
from hospitium.testing.phantoms import write_phantoms


@pytest.fixture(scope="session")
def chests(tmp_path_factory) -> Path:
    """Return a folder of small phantom radiographs: 9 studies of 8 subjects or so."""
    folder = tmp_path_factory.mktemp("chests")
    write_phantoms(folder, num_subjects=8, seed=1, size=64)
    return folder


@pytest.fixture
def key() -> SiteKey:
    return SiteKey(b"k" * 32)


@pytest.fixture
def orthanc(tmp_path) -> Iterator[Orthanc]:
    if reason := why_not():
        pytest.skip(reason)
    with Orthanc(folder=tmp_path / "orthanc") as server:
        yield server


@pytest.fixture
def fake() -> Iterator[FakeDicomweb]:
    with FakeDicomweb() as server:
        yield server
