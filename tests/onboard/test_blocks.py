"""Blocks: what is packed is unpacked, and nothing else is believed."""

import contextlib
import random
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.onboard import wire

CODECS = [
    codec for codec in ("stored", "zlib", "zstd") if wire.codec_module(codec) or codec == "stored"
]
records = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=3000)),
    max_size=8,
)


def packed(found, codec):
    packer = wire.Packer(codec)
    for number, offset, data in found:
        packer.add(number, offset, data)
    return packer.take()


def unpacked(payload):
    return [(number, offset, bytes(data)) for number, offset, data in wire.unpack_block(payload)]


@settings(max_examples=60, deadline=None)
@given(found=records, codec=st.sampled_from(CODECS))
def test_what_is_packed_is_unpacked(found, codec):
    payload = packed(found, codec)
    assert (unpacked(payload) if payload else []) == found


@pytest.mark.parametrize("codec", CODECS[1:])
def test_data_that_shrinks_is_compressed_and_other_is_not(codec):
    dull, wild = bytes(500_000), random.Random(1).randbytes(500_000)
    assert len(packed([(0, 0, dull)], codec)) < 5000
    assert 0 <= len(packed([(0, 0, wild)], codec)) - len(wild) < 40


def test_a_full_block_says_so():
    packer = wire.Packer("stored")
    packer.add(0, 0, bytes(packer.room))
    assert packer.room == 0
    packer.take()
    assert packer.room == wire.BLOCK_BYTES


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
        wire.unpack_block(garbage)


@pytest.mark.parametrize("codec", CODECS[1:])
def test_nothing_larger_than_a_block_is_ever_unpacked(codec):
    module = wire.codec_module(codec)
    byte = {"zlib": b"1", "zstd": b"2"}[codec]
    bomb = module.compress(bytes(200_000_000))
    for announced in (200_000_000, 1000):
        with pytest.raises(ValueError, match="block"):
            wire.unpack_block(struct.pack(">cI", byte, announced) + bomb)


def test_a_cut_block_is_an_error():
    whole = struct.pack(">cI", b"1", 16) + zlib.compress(bytes(16))
    with pytest.raises(ValueError, match="cut"):
        wire.unpack_block(whole[:-2])
