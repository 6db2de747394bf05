"""A PACS over DIMSE: C-FIND to find, C-GET to fetch, C-MOVE to our own listener where it must be.

PS3.4 C.4.1 to C.4.3, the Study Root model.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role
from pynetdicom.presentation import build_context

from hospitium.errors import PacsError
from hospitium.imaging.instance import Uids
from hospitium.imaging.sources.contexts import SOP_CLASSES, batches, storage_contexts
from hospitium.imaging.sources.pacs import PacsSettings
from hospitium.imaging.sources.queries import (
    Capability,
    InstanceFound,
    Query,
    SeriesFound,
    Sink,
    StudyFailedError,
    StudyFound,
    is_exact,
    is_uid,
    years,
)
from hospitium.imaging.sources.receiving import Listener, Receiver

_ECHO = "1.2.840.10008.1.1"
_FIND, _MOVE, _GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
_PENDING = (0xFF00, 0xFF01)
_SUCCESS, _UNKNOWN_DESTINATION, _NO_ANSWER = 0x0000, 0xA801, -1
_NOWHERE = "2.25.1"  # a UID that no study has
_STUDY_KEYS = (
    *("StudyDate", "AccessionNumber", "ModalitiesInStudy", "StudyDescription", "PatientID"),
    *("IssuerOfPatientID", "PatientBirthDate", "PatientAge", "NumberOfStudyRelatedInstances"),
)
_SERIES_KEYS = ("Modality", "SeriesDescription", "BodyPartExamined", "PatientAge")


class DimsePacs:
    """The DICOM service of one PACS. One association at a time, reused while it fits.

    Only the host and port of the settings are called. Listening begins with the first C-MOVE.
    """

    def __init__(self, settings: PacsSettings) -> None:
        self._settings = settings
        self._entity = AE(settings.our_ae_title)
        self._entity.acse_timeout = self._entity.connection_timeout = settings.timeout_s
        self._entity.dimse_timeout = self._entity.network_timeout = settings.timeout_s
        self._receiver = Receiver(max_bytes=settings.max_instance_mib << 20)
        self._association: Any = None
        self._socket: socket.socket | None = None
        self._classes: tuple[str, ...] = ()
        self._listener: Listener | None = None
        self._has_moved = False

    def close(self) -> None:
        """End the association and stop to listen."""
        self._release()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def probe(self) -> Capability:
        """Send a C-ECHO, see what is offered, and whether the PACS could send to us."""
        association = self._associate()
        answers = {
            "C-ECHO": f"status {_status(association.send_c_echo()):04X}",
            "C-FIND": self._offered(_FIND),
            "C-GET": self._offered(_GET),
            "C-MOVE": self._offered(_MOVE),
        }
        if answers["C-MOVE"] == "offered" and self._settings.retrieve != "get":
            answers["our AE title"] = self._probe_move()
        return Capability(kind="dimse", address=self._settings.address, answers=answers)

    def studies(self, query: Query) -> Iterator[StudyFound]:
        """Yield the studies that match exactly, each once."""
        seen = set[str]()
        for wanted in query.filters():
            keys = {"StudyInstanceUID": "", **dict.fromkeys(_STUDY_KEYS, ""), **wanted}
            for answer in list(self._find("STUDY", keys)):  # the association must be free again
                study = _study(answer)
                uid = study.uids.study
                if is_uid(uid) and uid not in seen and is_exact(study, wanted):
                    seen.add(uid)
                    yield study

    def series(self, study: str) -> list[SeriesFound]:
        """Return the series of a study."""
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": ""}
        answers = self._find("SERIES", {**keys, **dict.fromkeys(_SERIES_KEYS, "")})
        found = {_text(answer, "SeriesInstanceUID"): answer for answer in answers}
        return [_series(answer, study) for uid, answer in sorted(found.items()) if is_uid(uid)]

    def instances(self, study: str, series: str) -> list[InstanceFound]:
        """Return the instances of a series."""
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
        answers = self._find("IMAGE", {**keys, "SOPInstanceUID": "", "SOPClassUID": ""})
        found = {
            _text(answer, "SOPInstanceUID"): _text(answer, "SOPClassUID") for answer in answers
        }
        return [
            InstanceFound(uid=uid, sop_class=sop_class)
            for uid, sop_class in sorted(found.items())
            if is_uid(uid)
        ]

    def fetch(self, series: SeriesFound, instances: Sequence[InstanceFound], sink: Sink) -> None:
        """Fetch a series by C-GET or C-MOVE; what is there in part, instance by instance.

        Raises:
            StudyFailedError: The PACS could not give it.
        """
        wanted = [instance for instance in instances if sink.is_wanted(instance.uid)]
        is_whole = len(wanted) == len(instances)
        place = {"StudyInstanceUID": series.study, "SeriesInstanceUID": series.uid}
        requests = (
            [{"QueryRetrieveLevel": "SERIES", **place}]
            if is_whole and wanted
            else [
                {"QueryRetrieveLevel": "IMAGE", **place, "SOPInstanceUID": instance.uid}
                for instance in wanted
            ]
        )
        classes = {instance.sop_class for instance in wanted if is_uid(instance.sop_class)}
        for batch in batches(classes or SOP_CLASSES, num_others=len(_services())):
            left = [request for request in requests if _is_missing(request, wanted, sink)]
            for request in left:
                self._retrieve(request, batch, sink)

    def _retrieve(self, request: Mapping[str, str], classes: Iterable[str], sink: Sink) -> None:
        """Send one C-GET; where that is not offered, one C-MOVE."""
        if self._settings.retrieve != "move":
            association = self._associate(tuple(classes))
            if self._offered(_GET) == "offered":
                responses = association.send_c_get(_dataset(request), _GET)
                self._follow("C-GET", responses, sink)
                return
            if self._settings.retrieve == "get":
                raise PacsError(
                    f"PACS {self._settings.name} ({self._settings.address}): C-GET is not offered "
                    'to us. What arrived whole is kept. Say retrieve = "auto" in the settings, or '
                    "ask the PACS administrator to allow it."
                )
        self._listen()
        association = self._associate()
        responses = association.send_c_move(_dataset(request), self._settings.our_ae_title, _MOVE)
        status = self._follow("C-MOVE", responses, sink, is_move=True)
        self._has_moved |= status == _SUCCESS

    def _follow(
        self, what: str, responses: Iterable[Any], sink: Sink, *, is_move: bool = False
    ) -> int:
        """Take what arrives until the last response; return its status."""
        self._receiver.begin(sink)
        status = _NO_ANSWER
        try:
            for response, _ in responses:
                status = _status(response)
                if self._receiver.problem is not None:
                    self._association.abort()
                    break
        finally:
            self._receiver.end()
        if is_move and (status == _UNKNOWN_DESTINATION or self._is_unheard(status)):
            raise self._unknown_to_them(status)
        if status == _NO_ANSWER:
            self._release()
            raise StudyFailedError(f"{what}: the association broke off")
        if status != _SUCCESS:
            raise StudyFailedError(f"{what}: status {status:04X}")
        return status

    def _is_unheard(self, status: int) -> bool:
        """Whether a C-MOVE failed and nothing has ever come this way."""
        return (
            status not in (_SUCCESS, _NO_ANSWER)
            and not self._has_moved
            and (self._receiver.num_received == 0)
        )

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = Listener(self._settings, self._receiver, sop_classes=SOP_CLASSES)

    def _find(self, level: str, keys: Mapping[str, str]) -> Iterator[Dataset]:
        """Yield the answers to a C-FIND."""
        query = _dataset({"QueryRetrieveLevel": level, **keys})
        association = self._associate()
        if self._offered(_FIND) != "offered":
            raise PacsError(
                f"PACS {self._settings.name} ({self._settings.address}): C-FIND is not offered to "
                f"{self._settings.our_ae_title}. Nothing was asked. Ask the PACS administrator to "
                "allow it."
            )
        status = _NO_ANSWER
        for response, answer in association.send_c_find(query, _FIND):
            status = _status(response)
            if status in _PENDING and answer is not None:
                yield answer
        if status != _SUCCESS:
            self._release()
            found = "the association broke off" if status == _NO_ANSWER else f"status {status:04X}"
            raise PacsError(
                f"PACS {self._settings.name} ({self._settings.address}): C-FIND: {found}, expected "
                "0000. What arrived whole is kept; nothing is half-written. Ask the PACS "
                "administrator what its log says, then run the same command again."
            )

    def _associate(self, classes: tuple[str, ...] = ()) -> Any:
        """Return an association that lets these classes be sent to us, opened if need be."""
        is_fit = set(classes) <= set(self._classes)
        if self._association is not None and self._association.is_established and is_fit:
            return self._association
        self._release()
        self._knock()
        self._association = self._entity.associate(
            self._settings.host,
            self._settings.port,
            contexts=[*map(build_context, _services()), *storage_contexts(classes)],
            ae_title=self._settings.ae_title,
            ext_neg=[build_role(sop_class, scp_role=True) for sop_class in classes],
            evt_handlers=self._receiver.handlers(),
        )
        if not self._association.is_established:
            raise self._not_associated()
        self._classes = classes
        self._socket = self._association.dul.socket.socket
        return self._association

    def _knock(self) -> None:
        """See that somebody listens: pynetdicom tells no cause and leaves the socket open."""
        where = (self._settings.host, self._settings.port)
        try:
            socket.create_connection(where, timeout=self._settings.timeout_s).close()
        except OSError as error:
            raise PacsError(
                f"PACS {self._settings.name}: {self._settings.address} cannot be reached "
                f"({error.strerror or error}). What arrived whole is kept; nothing is "
                "half-written. Check that it runs, host and port, and that no firewall stands "
                "between, then run the same command again: it goes on where it stopped."
            ) from error

    def _offered(self, service: str) -> str:
        accepted = {str(context.abstract_syntax) for context in self._association.accepted_contexts}
        return "offered" if service in accepted else "not offered"

    def _release(self) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()
        if self._socket is not None:
            self._socket.close()  # pynetdicom leaves it open where the other side went first
        self._association, self._socket, self._classes = None, None, ()

    def _probe_move(self) -> str:
        """Ask for a study that is nowhere, to be sent to us: a PACS without our title says so."""
        request = _dataset({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": _NOWHERE})
        status = _NO_ANSWER
        for response, _ in self._associate().send_c_move(
            request, self._settings.our_ae_title, _MOVE
        ):
            status = _status(response)
        if status == _UNKNOWN_DESTINATION:
            return f"unknown to the PACS (A801): {self._line_for_them()}"
        if status == _SUCCESS:
            return "known to the PACS"
        return f"no clear answer (status {status:04X}): {self._line_for_them()}"

    def _not_associated(self) -> PacsError:
        is_rejected, self._association = self._association.is_rejected, None
        title, their_title = self._settings.our_ae_title, self._settings.ae_title
        found = "refused the association" if is_rejected else "broke off"
        return PacsError(
            f"PACS {self._settings.name}: {self._settings.address} {found}. What arrived whole is "
            f"kept; nothing is half-written. It may not know the AE title {title}, or not be "
            f"called {their_title}. {self._line_for_them()}"
        )

    def _unknown_to_them(self, status: int) -> PacsError:
        """Return what to do when a C-MOVE sends nothing to us."""
        why = (
            "the PACS does not know our AE title"
            if status == _UNKNOWN_DESTINATION
            else "nothing was sent, and no reason given: most often the PACS does not know our AE "
            "title, or its way to our port is closed"
        )
        return PacsError(
            f"PACS {self._settings.name} ({self._settings.address}): C-MOVE: status {status:04X}: "
            f"{why}. What arrived whole is kept. {self._line_for_them()} Then run the same command "
            "again."
        )

    def _line_for_them(self) -> str:
        """Return what the PACS administrator has to enter."""
        title, port = self._settings.our_ae_title, self._settings.listen_port
        here = _our_address(self._settings.host, self._settings.port)
        return (
            f"Line for the PACS administrator: AE title {title}, host {here}, port {port} (in "
            f'Orthanc, under "DicomModalities": "hospitium": ["{title}", "{here}", {port}]).'
        )


def _services() -> tuple[str, ...]:
    return _ECHO, _FIND, _GET, _MOVE


def _is_missing(request: Mapping[str, str], wanted: Sequence[InstanceFound], sink: Sink) -> bool:
    """Whether something of this request has not arrived with an earlier batch of classes."""
    if "SOPInstanceUID" in request:
        return sink.is_wanted(request["SOPInstanceUID"])
    return any(sink.is_wanted(instance.uid) for instance in wanted)


def _dataset(keys: Mapping[str, str]) -> Dataset:
    """Return an identifier; text beyond ASCII is sent as UTF-8, and says so."""
    dataset = Dataset()
    if not all(value.isascii() for value in keys.values()):
        dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


def _text(answer: Dataset, keyword: str) -> str:
    """Return an attribute as one stripped line, empty if it is absent or does not parse."""
    try:  # pydicom converts on first access and raises whatever the conversion raises
        value = answer.get(keyword)
    except Exception:
        return ""
    if value is None:
        return ""
    values = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else value
    return "\\".join(str(part).strip() for part in values)


def _status(response: Dataset) -> int:
    """Return the status of a response, or that there was none."""
    return int(response.Status) if "Status" in response else _NO_ANSWER


def _our_address(host: str, port: int) -> str:
    """Return our address as seen from the PACS; nothing is sent to find out."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, port))
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()


def _study(answer: Dataset) -> StudyFound:
    count = _text(answer, "NumberOfStudyRelatedInstances")
    return StudyFound(
        uids=Uids(
            study=_text(answer, "StudyInstanceUID"),
            patient=_text(answer, "PatientID"),
            issuer=_text(answer, "IssuerOfPatientID"),
            accession=_text(answer, "AccessionNumber"),
        ),
        date=_text(answer, "StudyDate"),
        modalities=tuple(filter(None, _text(answer, "ModalitiesInStudy").split("\\"))),
        description=_text(answer, "StudyDescription"),
        birth_date=_text(answer, "PatientBirthDate"),
        age=years(_text(answer, "PatientAge")),
        num_instances=int(count) if count.isdecimal() else None,
    )


def _series(answer: Dataset, study: str) -> SeriesFound:
    return SeriesFound(
        study=study,
        uid=_text(answer, "SeriesInstanceUID"),
        modality=_text(answer, "Modality"),
        description=_text(answer, "SeriesDescription"),
        body_part=_text(answer, "BodyPartExamined"),
        age=years(_text(answer, "PatientAge")),
    )
