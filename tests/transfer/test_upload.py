"""Promise 3, up: what arrives is what was sent, whole or not at all, and nothing is sent twice."""

import asyncio
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
from towline.onboard import blocks
from towline.talk import Talk
from towline.transfer import connections, hashing, upload_classic, upload_sender, upload_stream
from towline.transfer.hashing import hashed
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

        async def go(line):
            line.codecs = codecs
            return await upload(line, found, "dataset", mode=mode, report=told)

        return self.far.run(go)

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
        lines = {name for name in odd if name.startswith("delivered-dataset.")}
        assert len(lines) in {0, 2}  # of the manifest that is delivered, and their index
        return (odd - lines) | {path.name for path in (self.far.control / "incoming").iterdir()} - {
            "dataset.lock",
            "dataset.token",
            "dataset.takers",
        }


@pytest.fixture
def send(tmp_path):
    return Upload(tmp_path / "far")


@pytest.fixture
def alone(monkeypatch):
    """One connection only."""
    monkeypatch.setattr(connections, "_WORTH_BYTES", 1 << 60)


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


def read(root):
    """A scan with hashes."""
    found = scan(root)
    assert list(hashed(found))[-1] == len(found.manifest)
    return found


def same(sent, arrived):
    """Assert that two trees are equal: contents, modes, times, links, folders."""
    assert read(arrived).manifest == read(sent).manifest
    assert set(trees.paths(arrived)) == set(trees.paths(sent))


# -- the stream -----------------------------------------------------------------------------------


def test_a_tree_arrives_as_it_is(send, source):
    result = send(source)
    same(source, send.final)
    manifest = read(source).manifest
    assert (result.direction, result.mode) == ("upload", "stream")
    assert (result.files, result.bytes) == (manifest.file_count, manifest.size_bytes)
    assert result.manifest_sha256 == manifest.digest()
    assert result.sent_bytes < manifest.size_bytes + 20_000
    assert not send.left_over()
    last = send.progress[-1]
    assert (last.bytes, last.files) == (last.total_bytes, last.total_files)


def test_a_second_delivery_sends_nothing(send, source, alone):
    send(source)
    before = os.stat(send.final)
    result = send(source)
    assert result.sent_bytes == 0
    assert os.stat(send.final).st_ino == before.st_ino
    assert len(send.far.dialer.processes) == 2  # one talk each


def test_a_delivery_that_was_touched_is_made_again(send, source):
    send(source)
    (send.final / "images" / "0.jpg").write_bytes(b"touched")
    send(source)
    same(source, send.final)


def test_changed_data_replaces_the_old(send, source):
    send(source)
    (source / "run.sh").unlink()
    (source / "new.txt").write_text("new")
    (source / "images" / "0.jpg").touch()
    result = send(source)
    same(source, send.final)
    assert result.sent_bytes < 10_000  # only what changed, and the manifest
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


def test_it_is_taken_up_again_after_a_cut_anywhere(send, source, alone):
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


def test_it_is_taken_up_again_when_the_answer_is_cut(send, source, alone):
    found = scan(source)
    for at in (0, 5, 12, 40, 60, 100, 160):
        send.far.clean()
        send.far.dialer.cuts = [(None, at)]
        send(found)
        same(source, send.final)


def test_many_cuts_in_one_upload_send_little_twice(send, source, alone):
    send.far.dialer.cuts = [(1_700_000, None)] * 5
    result = send(source)
    same(source, send.final)
    assert result.sent_bytes < 6 * MB + 5 * 2.3 * MB


def test_the_time_to_reconnect_starts_anew_when_bytes_got_through(send, source, alone):
    send.far.dialer.cuts = [(1_700_000, None)] * 5
    send.far.dialer.on_open = lambda argv: send.far.clock.advance(400)  # 600 are allowed
    send(source)
    same(source, send.final)


def test_a_line_that_stays_broken_is_an_error_that_can_be_resumed(send, source, alone):
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


def test_a_receiver_that_hangs_is_ended_by_the_next(send, source, alone):
    send.far.dialer.linger = True
    send.far.dialer.cuts = [(3 * MB, None)]
    send(source)
    first, second = send.far.dialer.processes
    assert first.returncode == -9
    assert second.returncode is not None


def test_a_changed_manifest_keeps_what_has_arrived(send, source, alone):
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
    found = read(source)
    before = found.manifest.digest()
    (source / "images" / "3.jpg").write_bytes(b"changed" * 1000)
    (source / "7.txt").write_text("longer than before\n" * 100)
    result = send(found)
    same(source, send.final)
    assert result.manifest_sha256 == read(source).manifest.digest() != before
    assert sum("changed while it was sent" in note for note in send.notes) == 2


@pytest.mark.parametrize("mode", ["stream", "zip", "files"])
def test_a_file_that_keeps_changing_is_an_error(send, source, monkeypatch, mode):
    def change():
        (source / "3.txt").write_text(str(random.random()))

    found = read(source)
    change()
    whole = hashing.rehash

    def rehash(*args):
        whole(*args)
        change()

    monkeypatch.setattr("towline.transfer.upload.rehash", rehash)
    send.far.dialer.on_put = lambda local, remote: (
        local.endswith("3.txt") and Path(local).write_text(str(random.random()))
    )
    with pytest.raises(errors.SourceChanged, match=r"3\.txt keeps changing"):
        send(found, mode=mode)
    assert not send.final.exists()


@pytest.mark.parametrize("hashed_before", [True, False])
@pytest.mark.parametrize("mode", ["stream", "zip", "files"])
def test_a_file_that_goes_away_is_an_error(send, source, mode, hashed_before):
    found = read(source) if hashed_before else scan(source)
    (source / "3.txt").unlink()
    with pytest.raises(errors.SourceChanged, match=r"3\.txt went away"):
        send(found, mode=mode)


def damage(monkeypatch, times):
    """Flip a byte of 3.jpg in the first sendings."""
    whole = upload_sender.block_of
    left = [times]

    def block_of(found, share, *args):
        block = whole(found, share, *args)
        names = {found.manifest.path(part.number) for part in share.parts}
        if left[0] and "images/3.jpg" in names:
            left[0] -= 1
            block = block[:-1000] + bytes([block[-1000] ^ 1]) + block[-999:]
        return block

    monkeypatch.setattr(upload_sender, "block_of", block_of)


def test_damaged_files_are_sent_again(send, source, monkeypatch):
    damage(monkeypatch, 1)
    send(source)
    same(source, send.final)
    assert sum("did not arrive whole" in note for note in send.notes) == 1


def test_a_damaged_compressed_block_is_sent_again(send, source, monkeypatch):
    whole = upload_sender.block_of
    left = [1]

    def block_of(*args):
        block = whole(*args)
        if block[:1] == b"1" and left[0]:
            left[0] = 0
            return block[:-5]
        return block

    monkeypatch.setattr(upload_sender, "block_of", block_of)
    send(source)
    assert left == [0]
    same(source, send.final)


def test_what_keeps_arriving_damaged_is_an_error(send, source, monkeypatch):
    damage(monkeypatch, 100)
    with pytest.raises(errors.ChecksumMismatch, match="did not arrive whole"):
        send(source)
    assert not send.final.exists()


def test_damage_on_the_instances_disk_is_found(send, source, alone):
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
    whole = upload_stream.Talk.send_json

    async def send_json(talk, kind, value):
        if "rows" in value:
            value = value | {"rows": value["rows"] + 1}
        await whole(talk, kind, value)

    monkeypatch.setattr(upload_stream.Talk, "send_json", send_json)
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
    return await upload(line, found, "dataset", mode="stream", report=lambda p: None)


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
        if progress.bytes < MB and not (disk / "filler").exists():
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


def test_without_a_codec_there_it_goes_as_it_is(send, source):
    result = send(source, mode="auto", codecs=())
    assert result.mode == "stream"
    assert result.sent_bytes > result.bytes
    same(source, send.final)


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


def test_the_line_shows_life_while_the_laptop_hashes(send, source, monkeypatch):
    signs = []
    really_send, really_greet = Talk.send_json, upload_stream._Attempt._greeting

    async def send_json(talk, kind, value):
        signs.extend([value] if value == {} else [])
        await really_send(talk, kind, value)

    async def greeting(attempt, hello):
        while len(signs) < 3:
            await asyncio.sleep(0.005)
        return await really_greet(attempt, hello)

    monkeypatch.setattr(Talk, "send_json", send_json)
    monkeypatch.setattr(upload_stream._Attempt, "_greeting", greeting)
    monkeypatch.setattr(upload_stream, "_ALIVE_S", 0.01)
    send(source)
    same(source, send.final)


@pytest.mark.parametrize(
    "odd",
    [{"want": [[0, 10**6]]}, {"want": [["a", 1]]}, {"want": None}, {"partial": [[-1, []]]}],
    ids=str,
)
def test_an_answer_that_makes_no_sense_is_an_error(send, source, monkeypatch, odd):
    really_hear = upload_stream._Attempt._heard

    def heard(attempt, remark):
        really_hear(attempt, remark | odd if "want" in remark else remark)

    monkeypatch.setattr(upload_stream._Attempt, "_heard", heard)
    with pytest.raises(errors.CommandFailed, match="makes no sense"):
        send(source)
    assert not send.final.exists()


def test_a_cancelled_upload_leaves_no_local_temporary_file(send, source, local_temp, monkeypatch):
    whole = upload_classic.copy_checked

    def slow(found, entry, write):
        time.sleep(0.02)
        return whole(found, entry, write)

    monkeypatch.setattr(upload_classic, "copy_checked", slow)

    async def cancelled(line):
        found = scan(source)
        task = asyncio.create_task(
            upload(line, found, "dataset", mode="zip", report=lambda p: None)
        )
        while not list(local_temp.iterdir()):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    send.far.run(cancelled)
    assert not list(local_temp.iterdir())


def test_zstd_is_used_where_both_sides_have_it(send, source, monkeypatch):
    if blocks.codecs.find("zstd") is None:
        pytest.skip("this system has no zstd")
    made = []
    whole = upload_sender.block_of
    monkeypatch.setattr(
        upload_sender, "block_of", lambda *args: made.append(whole(*args)) or made[-1]
    )
    send(source, codecs=("zstd", "zlib"))
    same(source, send.final)
    assert b"2" in {block[:1] for block in made}
