"""Promise 3, up: what arrives is what was sent, whole or not at all, and nothing is sent twice."""

import asyncio
import hashlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import trees
from fakes import Far
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.onboard.machine import old_python
from towline import errors
from towline.core.manifest import EntryKind
from towline.transfer import upload_classic, upload_frames, upload_stream
from towline.transfer.scan import scan
from towline.transfer.upload import upload

MB = 1_000_000


class Upload:
    """An instance, and uploads to it."""

    def __init__(self, folder, **options):
        self.far = Far(folder, **options)
        self.final = self.far.root / "dataset"
        self.progress = []

    def __call__(self, source, *, mode="stream", codecs=("zlib",), report=None):
        found = source if not isinstance(source, Path) else scan(source)

        def told(progress):
            self.progress.append(progress)
            if report is not None:
                report(progress)

        return self.far.run(
            lambda line: upload(line, found, "dataset", mode=mode, codecs=codecs, report=told)
        )

    def break_for_good(self, after):
        """Cut the line after some bytes, and every line after it at once; minutes pass."""
        self.far.dialer.cuts = [(after, None)] + [(0, None)] * 1000
        self.far.dialer.on_open = lambda argv: self.far.clock.advance(150)

    def heal(self):
        self.far.dialer.cuts = []
        self.far.dialer.on_open = lambda argv: None

    @property
    def notes(self):
        return [one.note for one in self.progress if one.note]

    def left_over(self):
        """What towline left of the upload in its control folder."""
        known = {"onboard.pyz", "epoch", "incoming", "delivered-dataset.json"}
        odd = {path.name for path in self.far.control.iterdir()} - known
        return odd | {path.name for path in (self.far.control / "incoming").iterdir()} - {
            "dataset.lock"
        }


@pytest.fixture
def send(tmp_path):
    return Upload(tmp_path / "far")


@pytest.fixture
def source(tmp_path):
    """6 MB that does not shrink, small text files, a link, an empty folder, an empty file."""
    root = tmp_path / "source"
    rng = random.Random(1)
    (root / "images").mkdir(parents=True)
    (root / "none yet").mkdir()
    for number in range(6):
        (root / "images" / f"{number}.jpg").write_bytes(rng.randbytes(MB))
    for number in range(50):
        (root / f"{number}.txt").write_text(f"label {number}\n" * 20)
    (root / "empty").write_bytes(b"")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "first").symlink_to("images/0.jpg")
    return root


def same(sent, arrived):
    """Assert that two trees are equal: contents, modes, times, links, folders."""
    assert scan(arrived).manifest == scan(sent).manifest
    assert set(trees.paths(arrived)) == set(trees.paths(sent))


# -- the stream -----------------------------------------------------------------------------------


def test_a_tree_arrives_as_it_is(send, source):
    result = send(source)
    same(source, send.final)
    manifest = scan(source).manifest
    assert (result.direction, result.mode, result.connections) == ("upload", "stream", 1)
    assert (result.files, result.bytes) == (manifest.file_count, manifest.size_bytes)
    assert result.manifest_sha256 == manifest.digest()
    assert result.sent_bytes < manifest.size_bytes + 20_000
    assert not send.left_over()
    last = send.progress[-1]
    assert (last.bytes, last.files) == (last.total_bytes, last.total_files)


def test_a_second_delivery_sends_the_manifest_only(send, source):
    send(source)
    before = os.stat(send.final)
    result = send(source)
    assert result.sent_bytes < 10_000
    assert os.stat(send.final).st_ino == before.st_ino
    assert len(send.far.dialer.processes) == 2  # one talk each: one round trip


def test_a_delivery_that_was_touched_is_made_again(send, source):
    send(source)
    (send.final / "images" / "0.jpg").write_bytes(b"touched")
    send(source)
    same(source, send.final)


def test_changed_data_replaces_the_old(send, source):
    send(source)
    (source / "run.sh").unlink()
    (source / "new.txt").write_text("new")
    send(source)
    same(source, send.final)
    assert not send.left_over()


def test_equal_contents_are_sent_once(send, source):
    shutil.copytree(source / "images", source / "again")
    result = send(source)
    same(source, send.final)
    assert result.sent_bytes < 6.1 * MB
    (send.final / "again" / "0.jpg").write_bytes(b"x")  # they are not one file there
    assert (send.final / "images" / "0.jpg").stat().st_size == MB


def test_a_single_file_arrives_in_a_folder(send, source):
    send(source / "images" / "0.jpg")
    assert (send.final / "0.jpg").read_bytes() == (source / "images" / "0.jpg").read_bytes()


def test_a_dataset_of_empty_files_arrives(send, tmp_path):
    (tmp_path / "s").mkdir()
    for name in "ab":
        (tmp_path / "s" / name).touch()
    send(tmp_path / "s")
    same(tmp_path / "s", send.final)


def test_an_old_python_receives_too(tmp_path, source):
    python = old_python()
    if python is None:
        pytest.skip("there is no python3.6 here")
    send = Upload(tmp_path / "far", python=python)
    send.far.dialer.cuts = [(3 * MB, None)]
    send(source)
    same(source, send.final)
    (source / "more").write_bytes(b"x")
    send(source, mode="zip")
    same(source, send.final)


@settings(max_examples=14, deadline=None)
@given(
    tree=trees.trees, links=trees.links, mode=st.sampled_from(["stream", "stream", "zip", "files"])
)
def test_any_tree_arrives_as_it_is(tmp_path_factory, tree, links, mode):
    folder = tmp_path_factory.mktemp("upload")
    root = folder / "source"
    trees.write(root, tree)
    trees.add_links(root, links)
    found = scan(root)
    send = Upload(folder / "far")
    send(found, mode=mode)
    expected = trees.look(root)
    for one in found.skipped:
        del expected[os.fsencode(one.path)]
    assert trees.look(send.final) == expected
    assert not send.left_over()
    shutil.rmtree(folder)


# -- cuts -----------------------------------------------------------------------------------------


def test_it_is_taken_up_again_after_a_cut_anywhere(send, source):
    found = scan(source)
    send(found)
    whole = send.far.dialer.sent
    for number in range(10):
        send.far.clean()
        send.far.dialer.sent = 0
        send.far.dialer.linger = number % 2 == 1  # the cut receiver hangs on
        at = (0, 1, 150, 2000)[number] if number < 4 else whole * (number - 3) // 7
        send.far.dialer.cuts = [(at, None)]
        result = send(found)
        assert result.sent_bytes < whole + 2.3 * MB  # a block under way, and one not yet written
        same(source, send.final)
        assert not send.left_over()


def test_it_is_taken_up_again_when_the_answer_is_cut(send, source):
    found = scan(source)
    for at in (0, 5, 12, 40, 60, 100, 160):
        send.far.clean()
        send.far.dialer.cuts = [(None, at)]
        send(found)
        same(source, send.final)


def test_many_cuts_in_one_upload_send_little_twice(send, source):
    send.far.dialer.cuts = [(1_700_000, None)] * 5
    result = send(source)
    same(source, send.final)
    assert result.sent_bytes < 6 * MB + 5 * 2.3 * MB


def test_the_time_to_reconnect_starts_anew_when_bytes_got_through(send, source, monkeypatch):
    send.far.dialer.cuts = [(1_700_000, None)] * 5
    send.far.dialer.on_open = lambda argv: send.far.clock.advance(400)  # 600 are allowed
    monkeypatch.setattr("towline.onboard.receive._REMARK_S", 0)
    send(source)
    same(source, send.final)


def test_a_line_that_stays_broken_is_an_error_that_can_be_resumed(send, source):
    send.break_for_good(1_700_000)
    with pytest.raises(errors.ConnectionLost) as caught:
        send(source)
    assert caught.value.resumable
    assert not send.final.exists()
    send.heal()
    before = send.far.dialer.sent
    send(source)
    assert send.far.dialer.sent - before < 5.5 * MB  # what had arrived counts
    same(source, send.final)


def test_a_killed_receiver_is_followed_by_another(send, source):
    killed = []

    def report(progress):
        if 2 * MB < progress.bytes < 5 * MB and len(killed) < 3:
            killed.append(progress.bytes)
            send.far.kill_receiver()

    send(source, report=report)
    same(source, send.final)
    assert not send.left_over()


def test_a_receiver_that_hangs_is_ended_by_the_next(send, source):
    send.far.dialer.linger = True
    send.far.dialer.cuts = [(3 * MB, None)]
    send(source)
    first, second = send.far.dialer.processes[:2]
    assert first.returncode == -9
    assert second.returncode is not None


def test_a_changed_manifest_keeps_what_has_arrived(send, source):
    send.break_for_good(5_500_000)
    with pytest.raises(errors.ConnectionLost):
        send(source)
    send.heal()
    (source / "0.txt").write_text("changed")
    result = send(source)
    assert result.sent_bytes < 2.5 * MB
    same(source, send.final)


# -- changes and damage ---------------------------------------------------------------------------


def test_a_file_that_changes_before_it_is_sent_is_sent_as_it_is_now(send, source):
    found = scan(source)
    (source / "images" / "3.jpg").write_bytes(b"changed" * 1000)
    (source / "7.txt").write_text("longer than before\n" * 100)
    result = send(found)
    same(source, send.final)
    assert result.manifest_sha256 == scan(source).manifest.digest() != found.manifest.digest()
    assert sum("changed while it was sent" in note for note in send.notes) == 2


@pytest.mark.parametrize("mode", ["stream", "zip", "files"])
def test_a_file_that_keeps_changing_is_an_error(send, source, monkeypatch, mode):
    found = scan(source)
    whole = upload_frames._checked

    def checked(file, entry, *args):
        if entry.path == "3.txt":
            (source / "3.txt").write_text(str(random.random()))
        return whole(file, entry, *args)

    monkeypatch.setattr(upload_frames, "_checked", checked)
    send.far.dialer.on_put = lambda local, remote: (
        local.endswith("3.txt") and Path(local).write_text(str(random.random()))
    )
    with pytest.raises(errors.SourceChanged, match=r"3\.txt keeps changing"):
        send(found, mode=mode)
    assert not send.final.exists()


@pytest.mark.parametrize("mode", ["stream", "zip", "files"])
def test_a_file_that_goes_away_is_an_error(send, source, mode):
    found = scan(source)
    (source / "3.txt").unlink()
    with pytest.raises(errors.SourceChanged, match=r"3\.txt went away"):
        send(found, mode=mode)


def damage(monkeypatch, times):
    """Flip a byte of 3.jpg in the first sendings."""
    whole = upload_stream.frames
    left = [times]

    def frames(found, pieces, codec):
        number = [e.path for e in found.manifest.entries].index("images/3.jpg")
        for frame in whole(found, pieces, "stored"):
            if left[0] and any(piece.number == number for piece in pieces):
                payload = bytearray(frame.payload)
                if len(payload) > MB:
                    payload[-1000] ^= 1
                yield upload_frames.Frame(bytes(payload), frame.bytes, frame.files)
            else:
                yield frame
        left[0] = max(0, left[0] - 1)

    monkeypatch.setattr(upload_stream, "frames", frames)


def test_damaged_files_are_sent_again(send, source, monkeypatch):
    damage(monkeypatch, 2)
    send(source)
    same(source, send.final)
    assert sum("did not arrive whole" in note for note in send.notes) == 2


def test_a_damaged_compressed_block_is_sent_again(send, source, monkeypatch):
    whole = upload_stream.frames
    left = [1]

    def frames(found, pieces, codec):
        for frame in whole(found, pieces, codec):
            if frame.payload[:1] == b"1" and left[0]:
                left[0] = 0
                yield upload_frames.Frame(frame.payload[:-5], frame.bytes, frame.files)
            else:
                yield frame

    monkeypatch.setattr(upload_stream, "frames", frames)
    send(source)
    assert left == [0]
    same(source, send.final)


def test_what_keeps_arriving_damaged_is_an_error(send, source, monkeypatch):
    damage(monkeypatch, 100)
    with pytest.raises(errors.ChecksumMismatch, match="did not arrive whole"):
        send(source)
    assert not send.final.exists()


def test_damage_on_the_instances_disk_is_found(send, source):
    send.break_for_good(4_500_000)
    with pytest.raises(errors.ConnectionLost):
        send(source)
    send.heal()
    objects = send.far.control / "incoming" / "dataset" / "objects"
    victim = next(path for path in objects.iterdir() if path.stat().st_size == MB)
    victim.write_bytes(bytes(MB))
    send(source)
    same(source, send.final)


def test_an_end_that_does_not_fit_is_no_arrival(send, source, monkeypatch):
    async def silent(talk, found, pieces, job):
        return upload_stream.Sent(files=len(pieces), bytes=found.manifest.size_bytes)

    monkeypatch.setattr(upload_stream, "send_pieces", silent)
    with pytest.raises(errors.ChecksumMismatch, match="end does not fit"):
        send(source)
    assert not send.final.exists()


def test_an_old_driver_is_refused(send, source):
    send.far.run(lambda _line: send.far.line(epoch=5).call("state"))
    send.far.run(lambda _line: _deliver(send.far.line(epoch=5), source))
    with pytest.raises(errors.Fenced):
        send.far.run(lambda _line: _deliver(send.far.line(epoch=4), source))


async def _deliver(line, source):
    found = scan(source)
    return await upload(
        line, found, "dataset", mode="stream", codecs=["zlib"], report=lambda p: None
    )


# -- no room --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """Makes a small file system of its own."""
    made = []

    def make(options):
        folder = tmp_path / f"disk{len(made)}"
        folder.mkdir()
        argv = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(argv, check=False, capture_output=True).returncode:
            pytest.skip("this user may not mount a small disk")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("mode", ["auto", "zip", "files"])
def test_too_large_for_the_disk_is_said_before_anything_is_sent(small_disk, source, mode):
    send = Upload(small_disk("size=68m"))
    with pytest.raises(errors.RemoteDiskFull, match=r"\d+ MB of disk space are missing") as caught:
        send(source, mode=mode)
    assert "disk_gb" in caught.value.hint
    assert send.far.dialer.sent < 20_000


def test_too_many_files_for_the_disk_is_said_before_anything_is_sent(small_disk, source):
    send = Upload(small_disk("size=200m,nr_inodes=300"))
    with pytest.raises(errors.RemoteDiskFull, match="inodes"):
        send(source)
    assert send.far.dialer.sent < 20_000


def test_a_disk_that_fills_up_on_the_way_can_be_resumed(small_disk, source, tmp_path):
    rng = random.Random(2)
    for number in range(20):
        (source / f"more{number}").write_bytes(rng.randbytes(MB))
    disk = small_disk("size=100m")
    send = Upload(disk)

    def fill(progress):
        if progress.bytes < MB:
            free = shutil.disk_usage(disk).free
            with (disk / "filler").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(free - 8 * MB, 1))

    with pytest.raises(errors.RemoteDiskFull, match="MB had yet to come"):
        send(source, report=fill)
    assert not send.final.exists()
    (disk / "filler").unlink()
    send(source)
    same(source, send.final)


# -- the classic ways -----------------------------------------------------------------------------


@pytest.fixture
def local_temp(tmp_path, monkeypatch):
    folder = tmp_path / "local temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def bare_path(folder, *tools):
    """A PATH with nothing but a few programs."""
    folder.mkdir()
    for tool in tools:
        (folder / tool).symlink_to(shutil.which(tool))
    return str(folder)


@pytest.mark.parametrize("tools", [("env", "rm"), ("env", "rm", "unzip")])
def test_one_zip_arrives_with_unzip_or_without(tmp_path, source, local_temp, tools):
    if shutil.which(tools[-1]) is None:
        pytest.skip("no unzip here")
    send = Upload(tmp_path / "far", path=bare_path(tmp_path / "bin", *tools))
    result = send(source, mode="zip")
    assert result.mode == "zip"
    same(source, send.final)
    assert not send.left_over()
    assert not list(local_temp.iterdir())


def test_a_single_file_is_not_zipped(send, source):
    assert send(source / "images" / "0.jpg", mode="zip").mode == "files"
    assert (send.final / "0.jpg").stat().st_size == MB


def test_no_zlib_there_means_one_zip(send, source):
    assert send(source, mode="auto", codecs=()).mode == "zip"
    same(source, send.final)
    assert any("no zlib" in note for note in send.notes)


@pytest.mark.parametrize("fault", ["no temporary folder", "disk full"])
def test_when_packing_fails_files_go_one_by_one(send, source, monkeypatch, local_temp, fault):
    def no_room(*args, **kwargs):
        raise OSError(28, "No space left on device")

    target = (
        (tempfile, "mkstemp")
        if fault == "no temporary folder"
        else (upload_classic, "copy_checked")
    )
    monkeypatch.setattr(*target, no_room)
    result = send(source, mode="zip")
    assert result.mode == "files"
    same(source, send.final)
    assert any("No space left" in note for note in send.notes)
    assert not send.left_over()
    assert not list(local_temp.iterdir())


def test_when_extracting_fails_files_go_one_by_one(tmp_path, source, local_temp):
    path = bare_path(tmp_path / "bin", "env", "rm", "false")
    (tmp_path / "bin" / "unzip").symlink_to("false")
    send = Upload(tmp_path / "far", path=path)
    assert send(source, mode="zip").mode == "files"
    same(source, send.final)
    assert not send.left_over()
    assert not list(local_temp.iterdir())


def test_a_cut_copy_is_repeated(send, source, local_temp):
    send.far.dialer.put_cuts = [1000, None, 500]
    send(source, mode="zip")
    same(source, send.final)
    send.far.clean()
    send.far.dialer.put_cuts = [1000, None, 500]
    send(source, mode="files")
    same(source, send.final)


def test_a_zip_that_never_arrives_leaves_nothing(send, source, local_temp):
    send.far.dialer.put_cuts = [1000] + [0] * 1000
    send.far.dialer.on_put = lambda local, remote: send.far.clock.advance(150)
    with pytest.raises(errors.ConnectionLost):
        send(source, mode="zip")
    assert not list(local_temp.iterdir())
    assert not send.final.exists()
    assert send.left_over() <= {"dataset"}  # the rest goes with the run's folder


def test_a_stream_that_fails_twice_gives_way_and_says_why(send, source):
    program = send.far.control / "onboard.pyz"
    broken = program.read_bytes()

    def without_receiver(argv):
        if argv[-1] == "receive":
            program.write_bytes(b"no program")
        else:
            program.write_bytes(broken)

    send.far.dialer.on_open = without_receiver
    result = send(source, mode="auto")
    assert result.mode == "zip"
    same(source, send.final)
    verbs = [note for note in send.notes if "the compressed stream fails" in note]
    assert len(verbs) == 1
    with pytest.raises(errors.CommandFailed):
        send.far.clean()
        send(source, mode="stream")


def test_a_cancelled_upload_leaves_no_local_temporary_file(send, source, local_temp, monkeypatch):
    whole = upload_classic.copy_checked

    def slow(found, entry, write):
        time.sleep(0.02)
        return whole(found, entry, write)

    monkeypatch.setattr(upload_classic, "copy_checked", slow)

    async def cancelled(line):
        found = scan(source)
        task = asyncio.create_task(
            upload(line, found, "dataset", mode="zip", codecs=["zlib"], report=lambda p: None)
        )
        while not list(local_temp.iterdir()):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    send.far.run(cancelled)
    assert not list(local_temp.iterdir())


def test_zstd_is_used_where_both_sides_have_it(send, source, monkeypatch):
    from towline.onboard import wire

    if wire.codec_module("zstd") is None:
        pytest.skip("this Python has no zstd")
    found = scan(source)
    pieces = [
        upload_frames.Piece(number, 0)
        for number, entry in enumerate(found.manifest.entries)
        if entry.kind is EntryKind.FILE and entry.path.endswith(".txt")
    ]
    payloads = [frame.payload for frame in upload_frames.frames(found, pieces, "zstd")]
    assert payloads[0][:1] == b"2"
    contents = b"".join(bytes(data) for p in payloads for _n, _o, data in wire.unpack_block(p))
    wanted = b"".join((source / found.manifest.entries[p.number].path).read_bytes() for p in pieces)
    assert hashlib.sha256(contents).digest() == hashlib.sha256(wanted).digest()
