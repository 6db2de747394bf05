"""schemathesis finds nothing: what the description of the routes says is what they do."""

import hashlib
import json
from contextlib import suppress

import httpx
import pytest
import requests
import schemathesis
from desks import Asking, Centre, key_of
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from hospitium.engines.hub.app import Hub
from hospitium.engines.hub.limits import Limits
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.requests import HEADER, Question
from hospitium.state.hub_store import OpenTask
from hospitium.wire.canonical import canonical_json, digest

pytestmark = pytest.mark.ci

OSLO = key_of("oslo request")
MODEL = b"model" * 1000
WITHOUT_LIMIT = Limits(
    unsigned_per_s=1e9, requests_per_s=1e9, enrolments_per_s=1e9, beats_per_s=1e9,
    echo_bytes_per_s=1e12, wait_s=0.01,
)  # fmt: skip
UNSIGNED = ("GET /v1/challenge", "POST /v1/enrolments")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    centre = Centre(folder=folder)
    centre.admit("oslo")
    centre.offer()
    backend, office = LocalBackend(folder / "hub"), Office(centre.desk)
    (folder / "model").write_bytes(MODEL)
    task = OpenTask(
        run_id="r", site_id="oslo", nonce="a" * 64, envelope=b"t", blob=digest(MODEL),
        upload_bytes=1 << 20,
    )  # fmt: skip
    backend.enqueue([task], blob=folder / "model")
    yield Hub(
        backend, members=office.members, key=centre.coordinator, office=office,
        limits=WITHOUT_LIMIT,
    )  # fmt: skip
    backend.close()


def answer_to(asking, case, *, is_signed):
    """Send a case exactly as it was made, with a signature over just that."""
    prepared = requests.Request(**case.as_transport_kwargs(base_url="https://hub")).prepare()
    content = content_of(case, prepared.body or b"")
    url = httpx.URL(prepared.url)
    path, _, query = url.raw_path.partition(b"?")
    headers = {"content-type": prepared.headers.get("content-type", "application/json")}
    if is_signed:
        signer_of(asking)
        question = Question(
            method=prepared.method, path=path.decode(), query=query.decode("latin-1")
        )
        sha256 = hashlib.sha256(content).hexdigest()
        headers[HEADER] = asking.signers[OSLO.to_bytes()].header(question, content_sha256=sha256)
    return asking.plain(prepared.method, url, content=content, headers=headers)


def content_of(case, body):
    """Return a body in its canonical form, where it is JSON."""
    data = body.encode() if isinstance(body, str) else bytes(body)
    if case.media_type == "application/json":
        with suppress(ValueError):
            return canonical_json(json.loads(data))
    return data


def signer_of(asking):
    """Make sure that there is a signer under a challenge of this hub."""
    asking.header(OSLO, "GET", "/v1/standing")


def described(hub):
    """Return every operation of the description, by name."""
    schema = schemathesis.openapi.from_dict(hub.api.openapi())
    found = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        found[f"{operation.method.upper()} {operation.path}"] = operation
    return found


def test_every_route_is_described(hub):
    served = {f"{method} {route.path}" for route in hub.api.routes for method in route.methods}
    assert set(described(hub)) == served and len(served) == 14


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("is_signed", "num_examples"), [(True, 20), (False, 6)])
def test_the_routes_do_what_their_description_says(hub, mode, is_signed, num_examples):
    asking, codes = Asking(app=hub.app), {}
    for name, operation in described(hub).items():
        if mode is GenerationMode.NEGATIVE and not has_input(operation):
            continue

        @settings(
            max_examples=num_examples, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def tried(case):
            response = answer_to(asking, case, is_signed=is_signed)
            codes.setdefault(case.operation.path, set()).add(response.status_code)
            case.validate_response(response, excluded_checks=not_tried(response))

        tried()
        if not is_signed and name not in UNSIGNED:
            assert codes[operation.path] <= {401, 413, 431}
    if is_signed and mode is GenerationMode.POSITIVE:
        accepted = {path for path, found in codes.items() if 200 in found}
        assert accepted >= {"/v1/tasks", "/v1/members", "/v1/heartbeat", "/v1/echo"}


def not_tried(response):
    """Return the checks that do not fit an answer.

    No description can say that a statement is signed by the right key. What is refused for its
    size is refused, which schemathesis does not know.
    """
    if response.status_code in (413, 431):
        return [positive_data_acceptance, negative_data_rejection]
    return [positive_data_acceptance]


def has_input(operation):
    """Whether there is anything that could be wrong."""
    return bool(operation.query or operation.path_parameters or operation.body)
