"""A PACS over DICOMweb: QIDO-RS to find, WADO-RS to fetch the bytes that it stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import requests
from dicomweb_client.web import DICOMwebClient
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from hospitium.errors import PacsError
from hospitium.imaging.instance import Uids
from hospitium.imaging.sources.multipart import MultipartError, boundary_of, parts
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

_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_CHUNK = 1 << 20
_MAX_PAGES = 100_000
_REFUSED = (401, 403, 407)
_STUDY_FIELDS = (
    *("StudyDescription", "ModalitiesInStudy", "IssuerOfPatientID", "PatientAge"),
    *("PatientBirthDate", "NumberOfStudyRelatedInstances", "NumberOfStudyRelatedSeries"),
)
_SERIES_FIELDS = ("SeriesDescription", "BodyPartExamined", "PatientAge")
_TAGS = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
    "SOPClassUID": "00080016",
    "PatientID": "00100020",
    "IssuerOfPatientID": "00100021",
    "PatientBirthDate": "00100030",
    "PatientAge": "00101010",
    "AccessionNumber": "00080050",
    "StudyDate": "00080020",
    "StudyDescription": "00081030",
    "SeriesDescription": "0008103E",
    "ModalitiesInStudy": "00080061",
    "Modality": "00080060",
    "BodyPartExamined": "00180015",
    "NumberOfStudyRelatedInstances": "00201208",
}
Answer: TypeAlias = Mapping[str, Any]


class DicomwebPacs:
    """The DICOMweb service of one PACS.

    Only the address of the settings is asked: no proxy, no redirect, nothing from the environment.
    One request at a time.

    Raises:
        UsageError: The password of the settings cannot be had.
    """

    def __init__(self, settings: PacsSettings) -> None:
        self._settings = settings
        self._session = _session(settings)
        self._client = DICOMwebClient(
            settings.url.rstrip("/"),
            session=self._session,
            timeout=settings.timeout_s,
            permissive_uid=True,  # real archives hold UIDs like 1.02.3; `is_uid` looks at them
        )
        self._client.set_http_retry_params(retry=False)  # the session does it, and says when not

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def probe(self) -> Capability:
        """Ask for one study, for the next one, and for its metadata; note what came back."""
        first = self._page("studies", {}, limit=1, offset=0)
        answers = {"studies": f"{len(first)} of at most 1 asked for"}
        if first:
            second = self._page("studies", {}, limit=1, offset=1)
            is_paged = [_value(study, "StudyInstanceUID") for study in first] != [
                _value(study, "StudyInstanceUID") for study in second
            ]
            answers["paging"] = "yes" if len(first) == 1 and is_paged else "no"
            study = _value(first[0], "StudyInstanceUID")
            has_count = bool(_value(first[0], "NumberOfStudyRelatedInstances"))
            answers["number of instances"] = "told" if has_count else "not told"
            answers["stored transfer syntax"] = self._probe_stored(study)
        return Capability(kind="dicomweb", address=self._settings.address, answers=answers)

    def studies(self, query: Query) -> Iterator[StudyFound]:
        """Yield the studies that match exactly, each once, page by page."""
        seen = set[str]()
        for wanted in query.filters():
            for answer in self._pages("studies", wanted):
                study = _study(answer)
                uid = study.uids.study
                if is_uid(uid) and uid not in seen and is_exact(study, wanted):
                    seen.add(uid)
                    yield study

    def series(self, study: str) -> list[SeriesFound]:
        """Return the series of a study."""
        answers = self._pages("series", {}, study=study)
        found = {_value(answer, "SeriesInstanceUID"): answer for answer in answers}
        return [_series(answer, study) for uid, answer in sorted(found.items()) if is_uid(uid)]

    def instances(self, study: str, series: str) -> list[InstanceFound]:
        """Return the instances of a series."""
        answers = self._pages("instances", {}, study=study, series=series)
        found = {_value(answer, "SOPInstanceUID"): answer for answer in answers}
        return [
            InstanceFound(uid=uid, sop_class=_value(answer, "SOPClassUID"))
            for uid, answer in sorted(found.items())
            if is_uid(uid)
        ]

    def fetch(self, series: SeriesFound, instances: Sequence[InstanceFound], sink: Sink) -> None:
        """Stream a series into the sink; what is there in part, instance by instance.

        The PACS is asked for ``transfer-syntax=*``: the bytes that it stores. Else it may
        transcode, and its codec decides the pixels of lossy images.

        Raises:
            StudyFailedError: The PACS could not give it.
        """
        place = f"/studies/{series.study}/series/{series.uid}"
        wanted = [instance for instance in instances if sink.is_wanted(instance.uid)]
        if len(wanted) == len(instances) > 1:
            self._stream(place, sink)
            return
        for instance in wanted:
            self._stream(f"{place}/instances/{instance.uid}", sink)

    def _stream(self, place: str, sink: Sink) -> None:
        url = self._settings.url.rstrip("/") + place
        headers = {"Accept": _STORED, "Accept-Encoding": "identity"}
        with self._get(url, headers) as response:
            try:
                boundary = boundary_of(response.headers.get("Content-Type", ""))
                for part in parts(_chunks(response), boundary=boundary):
                    sink.take(part)
            except MultipartError as error:
                raise StudyFailedError(str(error)) from error

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Return an open answer of status 200."""
        try:
            response = self._session.get(
                url, headers=headers, stream=True, timeout=self._settings.timeout_s
            )
        except requests.RequestException as error:
            raise self._unreachable(error) from error
        if response.status_code != 200:
            response.close()
            if response.status_code in _REFUSED:
                raise self._refused(response.status_code)
            raise StudyFailedError(f"HTTP {response.status_code}")
        return response

    def _pages(
        self, level: str, wanted: Mapping[str, str], *, study: str = "", series: str = ""
    ) -> Iterator[Answer]:
        """Yield all answers, a page at a time, until one is empty or brings nothing new."""
        size, offset, before = self._settings.page_size, 0, None
        for _ in range(_MAX_PAGES):
            page = self._page(level, wanted, limit=size, offset=offset, study=study, series=series)
            if not page or page == before:  # some services answer the first page for ever
                return
            yield from page
            if len(page) > size:  # it does not page: this was everything
                return
            offset, before = offset + len(page), page

    def _page(
        self,
        level: str,
        wanted: Mapping[str, str],
        *,
        limit: int,
        offset: int,
        study: str = "",
        series: str = "",
    ) -> list[Answer]:
        common: dict[str, Any] = {
            "search_filters": dict(wanted),
            "limit": limit,
            "offset": offset,
        }
        if level == "studies":
            search = self._client.search_for_studies
            return self._asked(lambda: search(fields=_STUDY_FIELDS, **common))
        if level == "series":
            search = self._client.search_for_series
            return self._asked(lambda: search(study, fields=_SERIES_FIELDS, **common))
        search = self._client.search_for_instances
        return self._asked(lambda: search(study, series, fields=("SOPClassUID",), **common))

    def _asked(self, search: Callable[[], list[Answer]]) -> list[Answer]:
        """Return the answers of one query, or say why there are none."""
        try:
            return [answer for answer in search() if isinstance(answer, dict)]
        except requests.HTTPError as error:
            status = 0 if error.response is None else error.response.status_code
            if status in _REFUSED:
                raise self._refused(status) from error
            raise PacsError(
                f"PACS {self._settings.name} ({self._settings.address}): a query was answered by "
                f"HTTP {status}, expected 200. What arrived whole is kept. Ask the PACS "
                "administrator what its log says of this, then run the same command again."
            ) from error
        except requests.JSONDecodeError as error:
            raise self._not_json() from error
        except requests.RequestException as error:
            raise self._unreachable(error) from error
        except (ValueError, TypeError, RecursionError) as error:  # JSON, but no list of answers
            raise self._not_json() from error

    def _probe_stored(self, study: str) -> str:
        """Return whether stored bytes are given, looking at the start of one instance."""
        for series in self.series(study)[:1]:
            for instance in self.instances(study, series.uid)[:1]:
                url = (
                    f"{self._settings.url.rstrip('/')}/studies/{study}/series/{series.uid}"
                    f"/instances/{instance.uid}"
                )
                try:
                    with self._get(url, {"Accept": _STORED}) as response:
                        boundary_of(response.headers.get("Content-Type", ""))
                except (StudyFailedError, MultipartError) as error:
                    return f"no: {error}"
                return "yes"
        return "unknown: an empty study"

    def _unreachable(self, error: Exception) -> PacsError:
        return PacsError(
            f"PACS {self._settings.name}: {self._settings.address} cannot be reached "
            f"({_cause(error)}). What arrived whole is kept; nothing is half-written. Check that "
            "the service runs and that no firewall stands between, then run the same command "
            "again: it goes on where it stopped."
        )

    def _not_json(self) -> PacsError:
        return PacsError(
            f"PACS {self._settings.name} ({self._settings.address}): a query was answered by "
            "something that is not JSON, or no list of answers. What arrived whole is kept. Check "
            "that the url of the settings is the root of the DICOMweb service."
        )

    def _refused(self, status: int) -> PacsError:
        who = f"the user {self._settings.user}" if self._settings.user else "a caller without user"
        return PacsError(
            f"PACS {self._settings.name} ({self._settings.address}): HTTP {status}: {who} is "
            "refused. What arrived whole is kept. Check user and password in the settings, and "
            "ask the PACS administrator to let this user search and read."
        )


def _session(settings: PacsSettings) -> requests.Session:
    """Return a session that talks to one address and to nobody else."""
    session = requests.Session()
    session.trust_env = False  # no proxy, no .netrc
    session.max_redirects = 0
    session.verify = settings.ca_file or True
    if settings.user:
        session.auth = (settings.user, settings.password())
    again = Retry(
        total=3,
        connect=1,
        read=1,
        redirect=0,
        status=3,
        backoff_factor=0.5,
        status_forcelist=(429, 503),
        allowed_methods=("GET",),
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=again))
    return session


def _chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_content(_CHUNK)
    except requests.RequestException as error:
        raise StudyFailedError(f"the answer broke off ({_cause(error)})") from error


def _cause(error: Exception) -> str:
    """Return the innermost reason in few words, without addresses of this process."""
    inner: BaseException = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    words = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return str(words)[:200]


def _value(answer: Answer, keyword: str) -> str:
    """Return the first value of an attribute in the DICOM JSON model (PS3.18 F), or nothing."""
    return next(iter(_values(answer, keyword)), "")


def _values(answer: Answer, keyword: str) -> list[str]:
    attribute = answer.get(_TAGS[keyword])
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    if not isinstance(values, list):
        return []
    return [str(value).strip() for value in values if isinstance(value, str | int | float)]


def _study(answer: Answer) -> StudyFound:
    count = _value(answer, "NumberOfStudyRelatedInstances")
    return StudyFound(
        uids=Uids(
            study=_value(answer, "StudyInstanceUID"),
            patient=_value(answer, "PatientID"),
            issuer=_value(answer, "IssuerOfPatientID"),
            accession=_value(answer, "AccessionNumber"),
        ),
        date=_value(answer, "StudyDate"),
        modalities=tuple(_values(answer, "ModalitiesInStudy")),
        description=_value(answer, "StudyDescription"),
        birth_date=_value(answer, "PatientBirthDate"),
        age=years(_value(answer, "PatientAge")),
        num_instances=int(count) if count.isdecimal() and len(count) < 12 else None,
    )


def _series(answer: Answer, study: str) -> SeriesFound:
    return SeriesFound(
        study=study,
        uid=_value(answer, "SeriesInstanceUID"),
        modality=_value(answer, "Modality"),
        description=_value(answer, "SeriesDescription"),
        body_part=_value(answer, "BodyPartExamined"),
        age=years(_value(answer, "PatientAge")),
    )
