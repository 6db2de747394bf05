"""What a PACS sends over DIMSE, taken instance by instance; and our own listener for C-MOVE."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pynetdicom import AE, evt

from hospitium.errors import HospitiumError, PacsError
from hospitium.imaging.sources.contexts import TRANSFER_SYNTAXES
from hospitium.imaging.sources.pacs import PacsSettings
from hospitium.imaging.sources.queries import Sink, StudyFailedError

_SUCCESS, _NOT_AUTHORISED, _NO_RESOURCES, _CANNOT_UNDERSTAND = 0x0000, 0x0124, 0xA700, 0xC000
_IMPLEMENTATION = "2.25.263829331203041253907211043262870419917"
_CHUNK = 1 << 20
_MAX_ASSOCIATIONS = 4


class Receiver:
    """Hands what arrives to the sink of the series that is being fetched, and to no other.

    Attributes:
        problem: What went wrong with an instance of this series, None if nothing did.
        num_received: Instances taken since the beginning.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self.problem: HospitiumError | StudyFailedError | None = None
        self.num_received = 0
        self._max_bytes = max_bytes
        self._sink: Sink | None = None
        self._lock = threading.Lock()
        self._arriving: dict[Any, int] = {}

    def begin(self, sink: Sink) -> None:
        """Take instances into this sink from now on."""
        with self._lock:
            self._sink, self.problem = sink, None

    def end(self) -> None:
        """Take nothing any more.

        Raises:
            StudyFailedError, HospitiumError: What went wrong meanwhile.
        """
        with self._lock:
            self._sink = None
        if self.problem is not None:
            raise self.problem

    def handlers(self) -> list[tuple[Any, Any]]:
        """Return what to bind to an association."""
        return [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_PDU_RECV, self._count),
            (evt.EVT_DIMSE_RECV, self._forget),
        ]

    def _store(self, event: Any) -> int:
        """Keep one instance; return the status for the sender."""
        uid = str(event.request.AffectedSOPInstanceUID)
        with self._lock:
            if self._sink is None or self.problem is not None:
                return _NO_RESOURCES
            if not self._sink.is_wanted(uid):
                return _NOT_AUTHORISED
            try:
                self._sink.take(_file(event), uid=uid)
            except StudyFailedError as error:
                self.problem = error
                return _CANNOT_UNDERSTAND
            except HospitiumError as error:
                self.problem = error
                return _NO_RESOURCES
            self.num_received += 1
            return _SUCCESS

    def _count(self, event: Any) -> None:
        """Break off when a message grows beyond the limit: it is held in memory."""
        size = self._arriving.get(event.assoc, 0) + len(event.pdu)
        self._arriving[event.assoc] = size
        if size > self._max_bytes:
            self.problem = StudyFailedError(f"an instance of more than {self._max_bytes} bytes")
            event.assoc.abort()

    def _forget(self, event: Any) -> None:
        """Start to count anew: a whole message has arrived."""
        self._arriving.pop(event.assoc, None)


class Listener:
    """Takes what the PACS sends after a C-MOVE, from configured titles and addresses alone."""

    def __init__(
        self, settings: PacsSettings, receiver: Receiver, *, sop_classes: Sequence[str]
    ) -> None:
        """Start to listen.

        Raises:
            PacsError: The port cannot be had, or a sender's name has no address.
        """
        allowed = _addresses(settings)
        entity = AE(settings.our_ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(settings.senders or (settings.ae_title,))
        entity.maximum_associations = _MAX_ASSOCIATIONS
        entity.dimse_timeout = entity.network_timeout = settings.timeout_s
        for sop_class in sop_classes:
            entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        where = (settings.listen_host, settings.listen_port)
        try:
            self._server = entity.start_server(where, block=False, evt_handlers=receiver.handlers())
        except OSError as error:
            raise PacsError(
                f"PACS {settings.name}: nothing can listen at {where[0]}:{where[1]} "
                f"({error.strerror or error}). Nothing was asked. Free this port, or name another "
                "listen_port and tell the PACS administrator."
            ) from error
        self._server.verify_request = lambda request, address: address[0] in allowed

    def close(self) -> None:
        """Stop to listen."""
        self._server.shutdown()


def _addresses(settings: PacsSettings) -> frozenset[str]:
    """Return the addresses that may send to us."""
    found = set[str]()
    for host in settings.sender_hosts or (settings.host,):
        try:
            found |= {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
        except OSError as error:
            raise PacsError(
                f"PACS {settings.name}: {host} has no address ({error.strerror or error}). "
                "Nothing was asked. Mend host or sender_hosts in the settings."
            ) from error
    return frozenset(found)


def _file(event: Any) -> Iterator[bytes]:
    """Yield an instance as a file: a head that says its encoding, then the bytes as sent."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = event.request.AffectedSOPClassUID
    meta.MediaStorageSOPInstanceUID = event.request.AffectedSOPInstanceUID
    meta.TransferSyntaxUID = event.context.transfer_syntax
    meta.ImplementationClassUID = _IMPLEMENTATION
    head = io.BytesIO()
    head.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(head, meta)
    yield head.getvalue()
    with event.request.DataSet.getbuffer() as sent:
        for start in range(0, len(sent), _CHUNK):
            yield bytes(sent[start : start + _CHUNK])
