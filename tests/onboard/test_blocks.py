"""Blocks: what is packed is unpacked, and nothing else is believed."""

import contextlib
import random
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.onboard import blocks, codecs

CODECS = ["stored", *codecs.available()]
records = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=3000)),
    max_size=8,
)


def packed(found, codec):
    raw = b"".join(
        blocks.record(number, offset, len(data)) + data for number, offset, data in found
    )
    return blocks.wrap(raw, codec)


def unpacked(payload):
    return [(number, offset, bytes(data)) for number, offset, data in blocks.records(payload)]


@settings(max_examples=60, deadline=None)
@given(found=records, codec=st.sampled_from(CODECS))
def test_what_is_packed_is_unpacked(found, codec):
    assert unpacked(packed(found, codec)) == found


@pytest.mark.parametrize("codec", CODECS[1:])
def test_data_that_shrinks_is_compressed_and_other_is_not(codec):
    dull, wild = bytes(500_000), random.Random(1).randbytes(500_000)
    assert len(packed([(0, 0, dull)], codec)) < 5000
    assert 0 <= len(packed([(0, 0, wild)], codec)) - len(wild) < 40


def test_level_0_is_no_compression():
    assert blocks.wrap(bytes(5000), "zlib", 0)[:1] == b"0"


@pytest.mark.skipif(codecs._system_zstd() is None, reason="this system has no libzstd")
@settings(max_examples=40, deadline=None)
@given(raw=st.binary(max_size=5000), cut=st.integers(0, 10))
def test_the_systems_zstd_understands_the_laptops_and_the_other_way_round(raw, cut):
    system, own = codecs._system_zstd(), codecs.find("zstd")
    packed = system.compress(raw, 3)
    assert bytes(own.decompress(packed, len(raw))) == raw
    packed = own.compress(raw, 3)
    assert bytes(system.decompress(packed, len(raw))) == raw
    with pytest.raises(ValueError, match="block"):
        system.decompress(packed[: max(0, len(packed) - 1 - cut)], len(raw))
    with contextlib.suppress(ValueError):  # the one error that callers expect
        assert bytes(system.decompress(packed[:4] + b"x" + packed[5:], len(raw))) == raw
    if raw:
        with pytest.raises(ValueError, match="block"):
            system.decompress(packed, len(raw) - 1)


@settings(max_examples=150, deadline=None)
@given(found=records.filter(bool), codec=st.sampled_from(CODECS), data=st.data())
def test_damage_is_an_error_or_changes_nothing_else(found, codec, data):
    payload = bytearray(packed(found, codec))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(ValueError):  # the one error that callers expect
        unpacked(bytes(payload))


@settings(max_examples=100, deadline=None)
@given(garbage=st.binary(max_size=300))
def test_garbage_is_an_error(garbage):
    with contextlib.suppress(ValueError):  # the one error that callers expect
        blocks.records(garbage)


@pytest.mark.parametrize("codec", CODECS[1:])
def test_nothing_larger_than_a_block_is_ever_unpacked(codec):
    byte = {"zlib": b"1", "zstd": b"2"}[codec]
    bomb = codecs.find(codec).compress(bytes(200_000_000), 3)
    for announced in (200_000_000, 1000):
        with pytest.raises(ValueError, match="block"):
            blocks.records(struct.pack(">cI", byte, announced) + bomb)


def test_a_cut_block_is_an_error():
    whole = struct.pack(">cI", b"1", 16) + zlib.compress(bytes(16))
    with pytest.raises(ValueError, match="cut"):
        blocks.records(whole[:-2])
