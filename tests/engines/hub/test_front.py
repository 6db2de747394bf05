"""Several federations behind one URL have nothing in common but the port."""

import asyncio

import httpx
import pytest
from desks import Asking, Centre, key_of

from hospitium.engines.hub.app import Hub
from hospitium.engines.hub.front import Front
from hospitium.engines.hub.limits import Limits
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.requests import HEADER

OSLO, TURIN = key_of("oslo request"), key_of("turin request")


@pytest.fixture
def hubs():
    return {}


@pytest.fixture
def world(tmp_path, hubs):
    backends = []

    def add(federation, *site_ids, **limits):
        centre = Centre(folder=tmp_path, federation=federation)
        centre.admit(*site_ids)
        backends.append(LocalBackend(tmp_path / "hubs" / federation))
        office = Office(centre.desk)
        hubs[federation] = Hub(
            backends[-1],
            members=office.members,
            key=centre.coordinator,
            office=office,
            limits=Limits(**limits),
        )
        return centre

    add("north", "oslo")
    add("south", "oslo", "turin", requests_per_s=0.01, burst=5.0)
    yield add
    for backend in backends:
        backend.close()


@pytest.fixture
def front(world, hubs):
    app = Front(hubs).app
    return {name: Asking(app=app, prefix=f"/{name}") for name in ("north", "south", "west")}


def test_each_federation_answers_under_its_own_name(front):
    for name in ("north", "south"):
        standing = front[name].signed(OSLO, "GET", "/v1/standing").json()
        assert standing["federation"] == name
    assert front["north"].signed(TURIN, "GET", "/v1/standing").status_code == 401
    assert front["south"].signed(TURIN, "GET", "/v1/standing").status_code == 200


def test_a_request_for_one_federation_is_of_no_use_in_another(front):
    header = front["north"].header(OSLO, "GET", "/v1/standing")
    for name, code in (("south", 401), ("north", 200), ("north", 401)):
        answer = front["north"].plain("GET", f"/{name}/v1/standing", headers={HEADER: header})
        assert answer.status_code == code
    wide = front["north"].header(OSLO, "GET", "/north/v1/standing")
    again = front["north"].plain("GET", "/north/v1/standing", headers={HEADER: wide})
    assert again.status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/north", "/west/v1/challenge", "/v1/challenge", "//north/v1/challenge",
        "/North/v1/challenge", "/%6eorth/v1/challenge", "/north%2fv1/challenge",
        "/../north/v1/challenge", "/x" * 500,
    ],
)  # fmt: skip
def test_what_is_no_federation_is_answered_alike(front, path):
    answer, unknown = (front["north"].plain("GET", url) for url in (path, "/nowhere/v1/tasks"))
    if path.startswith("/../"):  # the client itself takes this out
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.content) == (404, unknown.content)


def test_the_limits_of_one_federation_are_not_anothers(front):
    codes = [front["south"].signed(OSLO, "GET", "/v1/standing").status_code for _ in range(8)]
    assert codes == [200] * 5 + [429] * 3
    assert front["north"].signed(OSLO, "GET", "/v1/standing").status_code == 200


def test_a_federation_that_is_added_is_served_at_once(front, world):
    assert front["west"].plain("GET", "/west/v1/challenge").status_code == 404
    world("west", "turin")
    assert front["west"].signed(TURIN, "GET", "/v1/standing").status_code == 200


def test_who_waits_in_any_federation_is_answered_when_the_server_stops(front, hubs):
    served, path = Front(hubs), "/v1/tasks?after=0&wait=30"
    headers = {
        name: front[name].header(OSLO, "GET", "/v1/tasks", "after=0&wait=30")
        for name in ("north", "south")
    }

    async def stop_while_they_wait():
        transport = httpx.ASGITransport(app=served.app)
        async with httpx.AsyncClient(transport=transport, base_url="https://hub") as http:
            waiting = [
                asyncio.create_task(http.get(f"/{name}{path}", headers={HEADER: header}))
                for name, header in headers.items()
            ]
            await asyncio.sleep(0.2)
            served.release_polls()
            return [answer.status_code for answer in await asyncio.gather(*waiting)]

    assert asyncio.run(stop_while_they_wait()) == [204, 204]
