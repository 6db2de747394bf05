"""Polls that something in between cuts: the next ones are shorter, and no task comes late."""

import threading

import httpx
import pytest
from faulty_proxy import Fault, FaultyProxy
from hub_federation import Running
from hypothesis import given
from hypothesis import strategies as st

from hospitium.engines.hub import polling
from hospitium.engines.hub.client import HubClient
from hospitium.engines.hub.polling import HELD, LEAST_S, PollLength
from hospitium.errors import HubError
from hospitium.state.hub_store import OpenTask

SITE = "site-1"
CUT = httpx.RemoteProtocolError("cut")
GATEWAY = HubError("unreachable", "504", status=504)


class Line:
    """A line on which nothing may be silent for longer than ``cut_s``; its time is its own."""

    def __init__(self, cut_s, error=CUT):
        self.now, self.cut_s, self.error, self.told = 0.0, cut_s, error, []
        self.length = PollLength(self.told.append, clock=lambda: self.now)

    def poll(self, wished_s=50):
        """Make one poll for which no task comes; return how long it was to be."""
        wait_s = self.length.of(wished_s)
        try:
            with self.length.watched(wait_s):
                self.now += min(wait_s, self.cut_s)
                if wait_s > self.cut_s:
                    raise self.error
        except type(self.error):
            pass
        return wait_s


@pytest.mark.parametrize("error", [CUT, GATEWAY, httpx.ReadTimeout("silent")])
def test_a_poll_that_is_cut_is_half_as_long_the_next_time(error):
    line = Line(10, error)
    assert [line.poll() for _ in range(5)] == [50, 25, 12, 6, 6]
    assert len(line.told) == 3


def test_longer_polls_are_tried_again_after_a_while():
    line = Line(10)
    while line.poll() > 10:
        pass
    line.cut_s = 60
    lengths = [line.poll() for _ in range(3 * HELD + 2)]
    assert lengths[: HELD - 1] == [6] * (HELD - 1) and lengths[-1] == 48
    assert [line.poll() for _ in range(HELD + 1)][-1] == 50


@given(st.integers(min_value=1, max_value=60), st.integers(min_value=0, max_value=120))
def test_no_poll_is_longer_than_wished_or_shorter_than_the_least(cut_s, wished_s):
    line = Line(cut_s)
    lengths = [line.poll(wished_s) for _ in range(2 * HELD + 10)]
    assert all(min(wished_s, LEAST_S) <= length <= wished_s for length in lengths)


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), HubError("busy", "", status=429)])
def test_a_hub_that_is_not_there_makes_no_poll_shorter(error):
    line = Line(10, error)
    assert [line.poll() for _ in range(3)] == [50, 50, 50]


def test_a_poll_that_the_site_ends_itself_was_not_cut():
    stop, told, now = threading.Event(), [], [0.0]
    length = PollLength(told.append, stop=stop, clock=lambda: now[0])
    stop.set()
    with pytest.raises(httpx.ReadError), length.watched(50):
        now[0] = 20.0
        raise httpx.ReadError("shut")
    assert length.of(50) == 50 and not told


@pytest.mark.ci
@pytest.mark.parametrize(
    ("idle_s", "wait_s", "least_s"),
    [(1.3, 8, 1), pytest.param(10, 50, 5, marks=pytest.mark.slow)],
)
def test_a_task_is_taken_up_at_once_behind_a_proxy_that_cuts_polls(
    tmp_path, monkeypatch, idle_s, wait_s, least_s
):
    monkeypatch.setattr(polling, "LEAST_S", least_s)
    running, said = Running(place=tmp_path, site_ids=[SITE]), []
    with FaultyProxy(Fault(idle_s=idle_s)) as proxy:
        client = HubClient(
            running.connection(proxy=proxy.url), key=running.request_key(SITE), log=said.append
        )
        polls = counted(client, monkeypatch)
        after = 0
        for number in range(4):  # each is put at another moment of a poll
            begun_before = []
            late = threading.Timer(
                idle_s * (0.3 + 0.55 * number),
                lambda it=number, then=begun_before: (put(running, it), then.append(len(polls))),
            )
            late.start()
            while not (found := client.tasks(after=after, wait_s=wait_s)):
                pass
            late.join()
            assert len(polls) <= begun_before[0] + 1  # the next one at the latest
            assert found[0].envelope == str(number).encode()
            after = found[0].n
        client.close()
    running.stop()
    assert any("cut a poll" in text for text in said)
    assert not any("refused" in text for text in said)


def counted(client, monkeypatch):
    """Return a list that gets an entry with each request that the client begins."""
    begun, once = [], client._asker.once

    def counting(*rest, **more):
        begun.append(1)
        return once(*rest, **more)

    monkeypatch.setattr(client._asker, "once", counting)
    return begun


def put(running, number):
    path = running.place / "blob"
    path.write_bytes(b"")
    task = OpenTask(
        run_id="r", site_id=SITE, nonce=f"{number:064x}", envelope=str(number).encode(),
        blob="b" * 64, upload_bytes=1000,
    )  # fmt: skip
    running.backend.enqueue([task], blob=path)
