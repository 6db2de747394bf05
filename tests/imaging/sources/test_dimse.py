"""DIMSE: C-FIND, C-GET, C-MOVE to our own listener, and what is refused on the way."""

import hashlib
import io
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pydicom
import pytest
from orthanc import AE_TITLE, OUR_AE_TITLE, Orthanc, free_port, why_not
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from hospitium.errors import PacsError, UsageError
from hospitium.imaging import decoding, parsing
from hospitium.imaging.sources.contexts import (
    MAX_CONTEXTS,
    SOP_CLASSES,
    TRANSFER_SYNTAXES,
    batches,
    storage_contexts,
)
from hospitium.imaging.sources.queries import StudyFailedError
from hospitium.imaging.sources.receiving import Listener, Receiver
from hospitium.operations.cohorts import PacsSettings, Query, Rules, fetch_cohort, probe_pacs

FIND, MOVE = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2"
ECHO, DX = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.1.1"
EVERYTHING = Query(modalities=("CR", "DX", "OT"))


def settings_of(port, **more):
    common = {"ae_title": AE_TITLE, "our_ae_title": OUR_AE_TITLE, "listen_host": "127.0.0.1"}
    quick = {"quiet_s": 0.0, "instances_per_s": 1000.0, "timeout_s": 10.0}
    return PacsSettings(kind="dimse", host="127.0.0.1", port=port, **{**common, **quick, **more})


def fetch(pacs, folder, key, query=EVERYTHING, **more):
    return fetch_cohort(pacs, query, Rules(), None, folder=folder, key=key, **more)


def fill(server, folder):
    for path in sorted(folder.rglob("*.dcm")):
        server.store(path.read_bytes())


def data_set_digests(folder):
    """Digests of data sets without their heads, which DIMSE does not carry."""
    return sorted(
        hashlib.sha256(data_set(path.read_bytes())).hexdigest() for path in folder.rglob("*.dcm")
    )


def data_set(raw):
    """Return a file without preamble and head, whose length stands at byte 140 (PS3.10 7.1)."""
    return raw[144 + int.from_bytes(raw[140:144], "little") :]


@contextmanager
def archive(*, knows_us=False, find_status=0x0000, image=None, send_to=0) -> Iterator[int]:
    """Run a PACS with one study, without C-GET; it sends an image, or nothing. Yield its port."""
    stored = pydicom.dcmread(io.BytesIO(image)) if image else None

    def find(event):
        answer = Dataset()
        answer.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
        answer.StudyInstanceUID, answer.SeriesInstanceUID = "1.2", "1.2.3"
        answer.SOPInstanceUID, answer.SOPClassUID = "1.2.3.4", DX
        if stored is not None:
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                setattr(answer, keyword, getattr(stored, keyword))
        answer.Modality, answer.ModalitiesInStudy = "DX", "DX"
        answer.PatientID, answer.StudyDate = "P-1", "20200101"
        yield 0xFF00, answer
        yield find_status, None

    def move(event):
        if stored is not None:
            context = build_context(stored.SOPClassUID, stored.file_meta.TransferSyntaxUID)
            yield "127.0.0.1", send_to, {"contexts": [context]}
            yield 1
            yield 0xFF00, stored
            return
        if not knows_us:
            yield None, None  # A801
        raise RuntimeError("a status of its own")

    entity = AE(AE_TITLE)
    for service in (ECHO, FIND, MOVE):
        entity.add_supported_context(service)
    handlers = [(evt.EVT_C_FIND, find), (evt.EVT_C_MOVE, move)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


# --- what is negotiated --------------------------------------------------------------------------


def test_every_association_has_room_for_its_contexts():
    for batch in batches(SOP_CLASSES, num_others=4):
        assert len(storage_contexts(batch)) + 4 <= MAX_CONTEXTS
    assert {uid for batch in batches(SOP_CLASSES, num_others=4) for uid in batch} == set(
        SOP_CLASSES
    )


def test_each_context_names_one_syntax_so_that_nothing_is_transcoded():
    contexts = storage_contexts([DX])
    assert [len(context.transfer_syntax) for context in contexts] == [1] * len(TRANSFER_SYNTAXES)


def test_what_is_negotiated_is_what_the_reader_decodes():
    native = {parsing.IMPLICIT, parsing.EXPLICIT, parsing.DEFLATED, parsing.BIG_ENDIAN}
    assert set(TRANSFER_SYNTAXES) == native | set(decoding._PLUGINS)


# --- a PACS that does not know us ----------------------------------------------------------------


def test_a801_says_that_the_pacs_does_not_know_our_title_with_the_line_for_its_administrator(
    tmp_path, key
):
    with archive() as port, pytest.raises(PacsError, match="A801") as error:
        fetch(settings_of(port, listen_port=free_port()), tmp_path / "c", key)
    assert f"AE title {OUR_AE_TITLE}, host 127.0.0.1, port" in str(error.value)
    assert "DicomModalities" in str(error.value)


@pytest.mark.ci
def test_a_probe_says_whether_the_pacs_knows_us():
    with archive() as port:
        answers = probe_pacs(settings_of(port)).answers
    assert answers["C-GET"] == "not offered" and answers["C-MOVE"] == "offered"
    assert "unknown to the PACS (A801)" in answers["our AE title"]


@pytest.mark.ci
def test_a_move_that_sends_nothing_names_the_likely_reason(tmp_path, key):
    with (
        archive(knows_us=True) as port,
        pytest.raises(PacsError, match="most often the PACS does not know"),
    ):
        fetch(settings_of(port, listen_port=free_port()), tmp_path / "c", key)


@pytest.mark.ci
def test_get_alone_where_it_is_not_offered_says_so(tmp_path, key):
    with archive() as port, pytest.raises(PacsError, match="C-GET is not offered"):
        fetch(settings_of(port, retrieve="get"), tmp_path / "c", key)


@pytest.mark.ci
def test_where_get_is_not_offered_the_image_is_moved_to_us(tmp_path, key, image):
    port = free_port()
    with archive(image=image, send_to=port) as pacs:
        flow = fetch(settings_of(pacs, listen_port=port), tmp_path / "c", key)
    assert flow.num_fetched == 1
    (path,) = (tmp_path / "c" / "files").rglob("*.dcm")
    assert pydicom.dcmread(path).PixelData == pydicom.dcmread(io.BytesIO(image)).PixelData


@pytest.mark.ci
def test_a_query_that_fails_says_its_status(tmp_path, key):
    with archive(find_status=0xA700) as port, pytest.raises(PacsError, match="A700"):
        fetch(settings_of(port), tmp_path / "c", key)


def test_an_address_where_nobody_is_says_so(tmp_path, key):
    with pytest.raises(PacsError, match="cannot be reached"):
        fetch(settings_of(free_port()), tmp_path / "c", key)


# --- our own listener ----------------------------------------------------------------------------


class Basket:
    """A sink that wants one instance."""

    def __init__(self, uid):
        self.uid, self.taken = uid, []

    def is_wanted(self, uid):
        return uid == self.uid

    def take(self, chunks, *, uid=""):
        self.taken.append(b"".join(chunks))


@contextmanager
def listening(**more):
    pacs = settings_of(104, listen_port=free_port(), **more)
    receiver = Receiver(max_bytes=more.get("max_instance_mib", 1) << 20)
    listener = Listener(pacs, receiver, sop_classes=[DX])
    try:
        yield pacs, receiver
    finally:
        listener.close()


def send(pacs, raw, *, sender=AE_TITLE, called=OUR_AE_TITLE):
    """Send one instance to our listener; return the status, None if nobody listened to us."""
    data = pydicom.dcmread(io.BytesIO(raw))
    entity = AE(sender)
    entity.add_requested_context(data.SOPClassUID, data.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", pacs.listen_port, ae_title=called)
    if not association.is_established:
        return None
    connection = association.dul.socket.socket
    status = association.send_c_store(data)
    if association.is_established:
        association.release()
    connection.close()  # pynetdicom leaves it open where the other side went first
    return status.get("Status", None)


@pytest.fixture
def image(chests):
    return next(
        raw
        for raw in (path.read_bytes() for path in sorted(chests.rglob("*.dcm")))
        if pydicom.dcmread(io.BytesIO(raw)).SOPClassUID == DX
    )


def test_the_listener_keeps_what_is_wanted_as_it_was_sent(image):
    basket = Basket(pydicom.dcmread(io.BytesIO(image)).SOPInstanceUID)
    with listening() as (pacs, receiver):
        receiver.begin(basket)
        assert send(pacs, image) == 0x0000
        receiver.end()
    assert [data_set(raw) for raw in basket.taken] == [data_set(image)]


@pytest.mark.ci
@pytest.mark.parametrize("names", [{"sender": "STRANGER"}, {"called": "OTHER"}])
def test_the_listener_takes_nothing_from_other_titles(image, names):
    with listening() as (pacs, receiver):
        receiver.begin(Basket("any"))
        assert send(pacs, image, **names) is None


@pytest.mark.ci
@pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK (storescu) is not installed")
def test_the_listener_understands_dcmtk(tmp_path, image):
    (tmp_path / "image.dcm").write_bytes(image)
    basket = Basket(pydicom.dcmread(io.BytesIO(image)).SOPInstanceUID)
    with listening() as (pacs, receiver):
        receiver.begin(basket)
        for sender, status in (("STRANGER", 1), (AE_TITLE, 0)):
            words = ["storescu", "-aet", sender, "-aec", OUR_AE_TITLE]
            where = ["127.0.0.1", str(pacs.listen_port), tmp_path / "image.dcm"]
            found = subprocess.run([*words, *where], capture_output=True, timeout=30, check=False)
            assert found.returncode == status, found.stderr
        receiver.end()
    assert [data_set(raw) for raw in basket.taken] == [data_set(image)]


@pytest.mark.ci
def test_the_listener_hangs_up_on_other_addresses():
    with (
        listening(sender_hosts=("192.0.2.1",)) as (pacs, _),
        socket.create_connection(("127.0.0.1", pacs.listen_port), timeout=5) as stranger,
    ):
        assert stranger.recv(1) == b""


def test_the_listener_takes_nothing_that_was_not_asked_for(image):
    basket = Basket("1.2.3.4.5")
    with listening() as (pacs, receiver):
        assert send(pacs, image) == 0xA700  # nothing is being fetched
        receiver.begin(basket)
        assert send(pacs, image) == 0x0124
    assert basket.taken == []


@pytest.mark.ci
def test_the_listener_breaks_off_what_is_too_large(dicom):
    import numpy as np

    raw = dicom(np.zeros((1200, 1000), np.uint16))
    basket = Basket("1.2.3")
    with listening() as (pacs, receiver):
        receiver.begin(basket)
        assert send(pacs, raw) is None
        with pytest.raises(StudyFailedError, match="more than"):
            receiver.end()
    assert basket.taken == []


@pytest.mark.ci
def test_a_port_that_is_taken_says_so():
    with listening() as (pacs, _), pytest.raises(PacsError, match="nothing can listen"):
        Listener(pacs, Receiver(max_bytes=1), sop_classes=[DX])


@pytest.mark.parametrize("title", ["", "SEVENTEEN LETTERS", "BACK\\SLASH"])
def test_a_title_that_is_none_is_refused(title):
    with pytest.raises(UsageError, match=r"AE title|missing"):
        settings_of(104, our_ae_title=title)


# --- Orthanc -------------------------------------------------------------------------------------


def of_orthanc(server, **more):
    return settings_of(server.dicom_port, listen_port=server.listen_port, **more)


@pytest.mark.ci
@pytest.mark.parametrize("retrieve", ["get", "move"])
def test_orthanc_sends_the_data_sets_that_were_stored(orthanc, chests, tmp_path, key, retrieve):
    fill(orthanc, chests)
    flow = fetch(of_orthanc(orthanc, retrieve=retrieve), tmp_path / "c", key)
    assert data_set_digests(tmp_path / "c" / "files") == data_set_digests(chests)
    assert flow.num_fetched == flow.num_instances == len(data_set_digests(chests))


@pytest.mark.ci
def test_both_ways_and_the_web_give_the_same_names_labels_and_pixels(
    orthanc, chests, tmp_path, key
):
    fill(orthanc, chests)
    for way in ("get", "move"):
        fetch(of_orthanc(orthanc, retrieve=way), tmp_path / way, key)
    first, second = (tmp_path / way for way in ("get", "move"))
    assert (first / "labels.csv").read_bytes() == (second / "labels.csv").read_bytes()
    assert (first / ".fetched.jsonl").read_bytes() == (second / ".fetched.jsonl").read_bytes()


@pytest.mark.ci
@pytest.mark.parametrize("retrieve", ["get", "move"])
def test_compressed_images_arrive_compressed(orthanc, real_data, tmp_path, key, retrieve):
    files = sorted((real_data / "dicom_samples" / "files").iterdir())
    paths = [path for path in files if any(n in path.name for n in ("JPGExtended", "693_J2KI"))]
    sent, studies = {}, set()
    for path in paths:
        orthanc.store(path.read_bytes())
        data = pydicom.dcmread(path)
        sent[data.SOPInstanceUID] = (data.file_meta.TransferSyntaxUID, data.PixelData)
        studies.add(str(data.StudyInstanceUID))
    query = Query(key="StudyInstanceUID", values=tuple(studies))
    fetch(of_orthanc(orthanc, retrieve=retrieve), tmp_path / "c", key, query)
    found = [pydicom.dcmread(path) for path in (tmp_path / "c" / "files").rglob("*.dcm")]
    assert {d.SOPInstanceUID: (d.file_meta.TransferSyntaxUID, d.PixelData) for d in found} == sent
    assert len(sent) == 2


@pytest.mark.ci
def test_an_interrupted_fetch_goes_on_where_it_stopped(orthanc, chests, tmp_path, key):
    fill(orthanc, chests)

    class StopError(Exception):
        pass

    def stop(event):
        if event["kind"] == "count" and event["text"] == "studies fetched" and event["done"] == 2:
            raise StopError

    with pytest.raises(StopError):
        fetch(of_orthanc(orthanc), tmp_path / "c", key, progress=stop)
    flow = fetch(of_orthanc(orthanc), tmp_path / "c", key)
    assert flow.num_fetched == len(data_set_digests(chests)) - 2
    assert data_set_digests(tmp_path / "c" / "files") == data_set_digests(chests)


@pytest.mark.ci
def test_orthanc_without_our_title_is_named_as_the_reason(chests, tmp_path, key):
    if reason := why_not():
        pytest.skip(reason)
    with Orthanc(folder=tmp_path / "orthanc") as server:
        fill(server, chests)
        pacs = of_orthanc(server, retrieve="move", our_ae_title="UNKNOWN")
        with pytest.raises(PacsError, match="AE title UNKNOWN"):
            fetch(pacs, tmp_path / "c", key)


@pytest.mark.ci
def test_orthanc_killed_midway_is_a_clear_error(orthanc, chests, tmp_path, key):
    fill(orthanc, chests)

    def kill_midway(event):
        if event["kind"] == "count" and event["text"] == "studies fetched" and event["done"] == 2:
            orthanc.kill()

    with pytest.raises(PacsError, match="kept"):
        fetch(of_orthanc(orthanc), tmp_path / "c", key, progress=kill_midway)
    assert len(data_set_digests(tmp_path / "c" / "files")) == 2
    assert not list((tmp_path / "c").rglob("*.part"))
