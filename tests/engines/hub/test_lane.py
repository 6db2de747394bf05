"""One large download after the other, and none held up by another's line."""

from __future__ import annotations

import asyncio

import pytest

from hospitium.engines.hub import lane as lanes
from hospitium.engines.hub.lane import LEAST_BYTES, Lane


@pytest.fixture
def order():
    return []


async def rider(lane, name, order, *, until=None, size=LEAST_BYTES):
    """Note when a download begins and ends; it lasts until the event."""
    async with lane.ride(size) as passed:
        order.append(f"{name} begins")
        if until is not None:
            await until.wait()
        passed(size)
    order.append(f"{name} ends")


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


def test_large_downloads_go_one_after_the_other_in_the_order_in_which_they_came(order):
    async def three():
        lane, held = Lane(), asyncio.Event()
        all_three = [
            asyncio.create_task(rider(lane, name, order, until=held)) for name in ("a", "b", "c")
        ]
        await settle()
        assert order == ["a begins"]
        held.set()
        await asyncio.gather(*all_three)

    asyncio.run(three())
    assert order == [f"{name} {what}" for name in ("a", "b", "c") for what in ("begins", "ends")]


def test_a_small_one_does_not_wait(order):
    async def two():
        lane, held = Lane(), asyncio.Event()
        large = asyncio.create_task(rider(lane, "large", order, until=held))
        await settle()
        await rider(lane, "small", order, size=LEAST_BYTES - 1)
        held.set()
        await large

    asyncio.run(two())
    assert order == ["large begins", "small begins", "small ends", "large ends"]


@pytest.mark.parametrize(("rate", "share"), [(1e18, 0.0), (0.0, 1e18)], ids=["line", "idle hub"])
def test_where_the_hub_is_not_what_it_waits_for_a_download_goes_on_beside_the_lane(
    order, monkeypatch, rate, share
):
    looks(monkeypatch, rate=rate, share=share)

    async def two():
        lane, held = Lane(), asyncio.Event()
        slow = asyncio.create_task(rider(lane, "slow", order, until=held))
        await settle()
        await rider(lane, "other", order)
        assert order == ["slow begins", "other begins", "other ends"]
        held.set()
        await slow

    asyncio.run(two())


def test_each_that_leaves_the_lane_lets_in_twice_as_many_and_the_next_round_begins_with_one(
    order, monkeypatch
):
    looks(monkeypatch, rate=1e18, share=0.0)

    async def many():
        lane, held = Lane(), asyncio.Event()
        begun = []
        monkeypatch.setattr(lane, "_look_later", begun.append)  # looked at by hand
        rides = [asyncio.create_task(rider(lane, str(n), order, until=held)) for n in range(20)]
        await settle()
        widths = []
        while begun:
            waiting, begun[:] = list(begun), []
            widths.append(len(waiting))
            for ride in waiting:
                lane._look(ride)
        assert widths[:2] == [1, 2] and widths[2] > 2 and sum(widths) == 20
        held.set()
        await asyncio.gather(*rides)
        held.clear()
        again = [asyncio.create_task(rider(lane, str(n), order, until=held)) for n in range(3)]
        await settle()
        assert len(lane._riders) == 1
        held.set()
        await asyncio.gather(*again)

    asyncio.run(many())


def test_one_that_the_hub_holds_up_stays_in_the_lane_and_the_next_waits(order, monkeypatch):
    looks(monkeypatch, rate=0.0, share=0.0)

    async def two():
        lane, held = Lane(), asyncio.Event()
        first = asyncio.create_task(rider(lane, "first", order, until=held))
        second = asyncio.create_task(rider(lane, "second", order))
        await asyncio.sleep(10 * lanes.LOOK_S)
        assert order == ["first begins"]
        held.set()
        await asyncio.gather(first, second)

    asyncio.run(two())


def looks(monkeypatch, *, rate, share):
    monkeypatch.setattr(lanes, "LOOK_S", 0.01)
    monkeypatch.setattr(lanes, "LEAST_RATE", rate)
    monkeypatch.setattr(lanes, "LEAST_SHARE", share)


def test_nobody_waits_longer_than_a_while_whatever_the_one_in_the_lane_does(order, monkeypatch):
    looks(monkeypatch, rate=0.0, share=0.0)
    monkeypatch.setattr(lanes, "WAIT_S", 0.05)

    async def three():
        lane, held = Lane(), asyncio.Event()
        first = asyncio.create_task(rider(lane, "first", order, until=held))
        await settle()
        await asyncio.gather(*(rider(lane, name, order) for name in "ab"))
        assert order[0] == "first begins" and "first ends" not in order and len(order) == 5
        assert len(lane._riders) == 1 and not lane._line
        held.set()
        await first

    asyncio.run(three())


@pytest.mark.parametrize("when", ["waiting", "in the lane", "just called"])
def test_one_that_is_cut_off_gives_the_lane_to_the_next(order, when):
    async def three():
        lane, held = Lane(), asyncio.Event()
        first = asyncio.create_task(rider(lane, "first", order, until=held))
        second = asyncio.create_task(rider(lane, "second", order, until=held))
        third = asyncio.create_task(rider(lane, "third", order))
        await settle()
        if when == "in the lane":
            first.cancel()
            await settle()
            assert order == ["first begins", "second begins"]
        else:
            if when == "just called":
                held.set()
                await asyncio.sleep(0)
            second.cancel()
        held.set()
        await asyncio.gather(first, second, third, return_exceptions=True)
        assert not lane._riders and not lane._line

    asyncio.run(three())
    assert order[-1] == "third ends"
