"""Promise 5, before an upload: the bytes it is said to take on the line are those it takes."""

import random

import pytest
from fakes import Far
from hypothesis import given
from hypothesis import strategies as st

from towline import errors
from towline.core.manifest import Entry, EntryKind, Manifest
from towline.onboard import codecs
from towline.onboard.blocks import BLOCK_BYTES
from towline.transfer import estimate as module
from towline.transfer.estimate import estimate
from towline.transfer.scan import Scan, scan
from towline.transfer.upload import upload

RNG = random.Random("estimate")
MB = 1_000_000


def noise(size):
    return RNG.randbytes(size)


def text(size):
    words = (f"{RNG.random():.4f} {RNG.choice('abc')}\n" for _ in range(size // 9))
    return "".join(words).encode()


def folder(root, **files):
    root.mkdir()
    for name, data in files.items():
        (root / name).write_bytes(data)
    return scan(root)


def sent_bytes(far_folder, found, mode):
    """What an upload of it really sends."""

    async def go(line):
        line.codecs = tuple(codecs.available())
        return await upload(line, found, "dataset", mode=mode, report=lambda _: None)

    return Far(far_folder).run(go).sent_bytes


@pytest.mark.parametrize("mode", ["auto", "stream", "zip", "files"])
def test_the_estimate_is_what_an_upload_sends(tmp_path, mode):
    found = folder(tmp_path / "data", a=noise(2 * MB), b=text(3 * MB), **{
        f"small{number}": text(700) + noise(300) for number in range(2000)
    })  # fmt: skip
    said = estimate(found, mode)
    assert said.sample_bytes == found.manifest.size_bytes
    assert said.sent_bytes == pytest.approx(sent_bytes(tmp_path / "far", found, mode), rel=0.06)


def test_the_codec_is_the_one_that_the_mode_uses(tmp_path):
    found = folder(tmp_path / "data", a=b"x")
    names = [estimate(found, mode).codec for mode in ("auto", "zip", "files")]
    assert names == [codecs.available()[0], "zlib", "stored"]


def test_a_sample_is_taken_from_all_over_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BLOCKS", 8)
    found = folder(tmp_path / "data", a=noise(16 * BLOCK_BYTES), b=bytes(16 * BLOCK_BYTES))
    said = estimate(found, "auto")
    assert said.sample_bytes == 8 * BLOCK_BYTES
    assert said.sent_bytes == pytest.approx(16 * BLOCK_BYTES, rel=0.01)


def test_no_time_still_means_one_block(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LIMIT_S", -1.0)
    found = folder(tmp_path / "data", a=bytes(3 * BLOCK_BYTES))
    assert estimate(found, "auto").sample_bytes == BLOCK_BYTES


def test_a_sample_cut_short_still_saw_both_ends(tmp_path, monkeypatch):
    looked_at = []
    clock = iter(range(1000))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock) / 8)  # eight blocks a second
    monkeypatch.setattr(
        module, "block_of", lambda _found, share, *_: looked_at.append(share.parts[0].start)
    )
    found = folder(tmp_path / "data", a=bytes(64 * BLOCK_BYTES))
    estimate(found, "auto")
    assert len(looked_at) < 16
    assert max(looked_at) - min(looked_at) > 48 * BLOCK_BYTES


def test_empty_files_weigh_their_entries_only(tmp_path):
    said = estimate(folder(tmp_path / "data", a=b"", b=b""), "auto")
    assert (said.sample_bytes, said.sent_bytes) == (0, 2 * module._ENTRY_BYTES)


def test_a_file_that_changes_meanwhile_is_named(tmp_path):
    found = folder(tmp_path / "data", a=b"before")
    (tmp_path / "data" / "a").write_bytes(b"after that")
    with pytest.raises(errors.SourceChanged, match="data/a changed") as caught:
        estimate(found, "auto")
    assert caught.value.hint


@given(st.lists(st.integers(0, 3 * BLOCK_BYTES), max_size=40))
def test_few_bytes_are_all_looked_at_and_once(tmp_path_factory, sizes):
    entries = [
        Entry(path=f"{number:03}", kind=EntryKind.FILE, size_bytes=size)
        for number, size in enumerate(sizes)
    ]
    root = tmp_path_factory.getbasetemp()
    found = Scan(root, root, Manifest.of(entries), ())
    shares = module._spread(found)
    if found.manifest.size_bytes <= module._BLOCKS * BLOCK_BYTES:
        seen = dict.fromkeys(range(len(sizes)), 0)
        for part in (part for share in shares for part in share.parts):
            assert part.start == seen[part.number] < part.end
            seen[part.number] = part.end
        assert list(seen.values()) == sizes
    assert all(share.bytes <= BLOCK_BYTES for share in shares)
    assert len(shares) <= module._BLOCKS
