"""Work is handed out whole, once, and to whoever is free; what broke off comes back."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.onboard.blocks import BLOCK_BYTES
from towline.transfer.shares import WHOLE_BYTES, Part, Prefix, Shares

SIZES = [1, 700, 64_000, WHOLE_BYTES, WHOLE_BYTES + 1, 3 * BLOCK_BYTES, 40, 40, 40]


def run(work):
    return asyncio.run(asyncio.wait_for(work, 10))


def bytes_of(parts):
    """Every byte that parts name, as (number, offset)."""
    return [(p.number, at) for p in parts for at in range(p.start, p.end)]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=30),
    targets=st.lists(st.integers(1, 4000), min_size=1, max_size=5),
    lose=st.integers(0, 5),
)
def test_every_byte_is_handed_out_once_whatever_is_lost(sizes, targets, lose):
    async def work():
        shares = Shares(sizes.__getitem__)
        assert shares.add([(0, len(sizes))], []) == sum(sizes) == shares.waiting_bytes
        shares.close()
        arrived, turn, left = [], 0, lose
        while not shares.finished:
            share = await shares.take(targets[turn % len(targets)])
            turn += 1
            if left and turn % 3 == 0:
                left -= 1
                shares.give_back([share])
                continue
            arrived += share.parts
            shares.arrived()
        assert await shares.take(100) is None
        return arrived

    arrived = run(work())
    assert sorted(bytes_of(arrived)) == [(n, at) for n, s in enumerate(sizes) for at in range(s)]


@pytest.mark.parametrize("target", [1, 100_000, BLOCK_BYTES, 1 << 40])
def test_small_files_travel_whole_and_no_share_is_larger_than_a_block(target):
    async def work():
        shares = Shares(SIZES.__getitem__)
        shares.add([(0, 4), (4, 5)], [])
        shares.close()
        found = []
        while not shares.finished:
            share = await shares.take(target)
            assert 0 < share.bytes <= BLOCK_BYTES
            found += share.parts
            shares.arrived()
        return found

    parts = run(work())
    for number, size in enumerate(SIZES):
        own = [p for p in parts if p.number == number]
        assert len(own) == 1 or size > WHOLE_BYTES
        assert [p.start for p in own] == sorted(p.start for p in own)


def test_whoever_has_nothing_to_do_waits_for_what_may_come_back():
    async def work():
        shares = Shares(lambda _number: 10)
        shares.add([(0, 1)], [])
        shares.close()
        first = await shares.take(100)
        waiting = asyncio.create_task(shares.take(100))
        await asyncio.sleep(0)
        assert not waiting.done()
        shares.give_back([first])
        assert await waiting == first
        waiting = asyncio.create_task(shares.take(100))
        await asyncio.sleep(0)
        shares.arrived()
        assert await waiting is None

    run(work())


def test_who_adds_too_much_waits_for_room():
    async def work():
        shares = Shares(lambda _number: 1000)
        shares.add([(0, 10)], [Part(50, 100, 200)])
        full = asyncio.create_task(shares.room(5000))
        await asyncio.sleep(0)
        assert not full.done()
        first = await shares.take(5000)
        assert first.parts[0] == Part(50, 100, 200)  # ranges go first
        await shares.take(5000)
        await full

    run(work())


@settings(max_examples=80, deadline=None)
@given(
    size=st.integers(1, 60),
    missing=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=4),
    added=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12),
)
def test_a_prefix_ends_where_the_first_gap_begins(size, missing, added):
    absent = {at for low, high in missing for at in range(low, min(high, size))}
    gaps, low = [], None
    for at in range(size + 1):
        if at in absent and low is None:
            low = at
        elif at not in absent and low is not None:
            gaps.append((low, at))
            low = None
    prefix = Prefix(size, gaps)
    for start, end in added:
        prefix.add(start, end)
        absent -= set(range(start, end))
    assert prefix.upto == min(absent, default=size)
    assert {at for low, high in prefix.gaps for at in range(low, high)} == absent
