"""Promise 3, down: what comes home is what is there, whole or not at all, and in its place only."""

import hashlib
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import trees
from fakes import Far
from hypothesis import given, settings

from tests.onboard.machine import old_python
from towline import collect, errors
from towline.onboard import wire
from towline.transfer import connections, download_files
from towline.transfer.download import RemoteFile, download
from towline.transfer.download_files import Landing

MB = 1_000_000


class Download:
    """An instance with an output folder, and downloads from it."""

    def __init__(self, folder, **options):
        self.far = Far(folder / "far", **options)
        self.output = self.far.root / "output"
        self.output.mkdir()
        self.into = folder / "home"
        self.progress = []

    def list(self):
        """What `survey` and `digest` would say of the files that are there."""
        found = []
        for path, data in contents(self.output).items():
            status = os.stat(os.path.join(os.fsencode(self.output), path))
            item = RemoteFile(
                path="output/" + os.fsdecode(path),
                size_bytes=len(data),
                mode=status.st_mode & 0o777,
                mtime_ns=status.st_mtime_ns,
                sha256=hashlib.sha256(data).hexdigest(),
            )
            found.append(item)
        return found

    def survey(self):
        """Survey and digest, as `gather` does."""

        async def ask(line):
            found = await collect.survey(line, 0)
            names = [f"{line.layout.root}/{file.path}" for file in found]
            hashes = await line.call("digest", {"paths": names})
            return [
                RemoteFile(
                    path=file.path,
                    size_bytes=file.size_bytes,
                    mode=file.mode,
                    mtime_ns=file.mtime_ns,
                    sha256=hashes["sha256"][name],
                )
                for file, name in zip(found, names, strict=True)
            ]

        return self.far.run(ask)

    def __call__(self, items=None, report=None):
        items = self.list() if items is None else items

        def told(progress):
            self.progress.append(progress)
            if report is not None:
                report(progress)

        return self.far.run(lambda line: download(line, line.layout.root, items, self.into, told))

    def same(self):
        """Assert that what is home equals what is there."""
        assert contents(self.into / "output") == contents(self.output)
        assert not list(self.into.rglob(".towline-*"))


def contents(folder):
    return {path: Path(os.fsdecode(os.path.join(os.fsencode(folder), path))).read_bytes()
            for path in trees.paths(folder)
            if os.path.isfile(os.path.join(os.fsencode(folder), path))}  # fmt: skip


@pytest.fixture
def alone(monkeypatch):
    """One connection only."""
    monkeypatch.setattr(connections, "_WORTH_BYTES", 1 << 60)


@pytest.fixture
def fetch(tmp_path):
    made = Download(tmp_path)
    rng = random.Random(1)
    (made.output / "sub").mkdir()
    for number in range(5):
        (made.output / f"{number}.pt").write_bytes(rng.randbytes(MB))
    for number in range(40):
        (made.output / "sub" / f"{number}.txt").write_text(f"line {number}\n" * 30)
    (made.output / "empty").touch()
    (made.output / "best.pt").symlink_to("3.pt")
    return made


def test_files_come_home_as_they_are(fetch):
    (fetch.output / "0.pt").chmod(0o755)
    os.utime(fetch.output / "0.pt", ns=(10**18, 10**18))
    items = fetch.survey()
    assert sorted(items, key=str) == sorted(fetch.list(), key=str)
    result = fetch(items)
    fetch.same()
    home = (fetch.into / "output" / "0.pt").stat()
    assert (home.st_mode & 0o777, home.st_mtime_ns) == (0o755, 10**18)
    assert (result.direction, result.files, result.changed) == ("download", len(items), {})
    assert result.bytes == sum(item.size_bytes for item in items)
    assert 6 * MB < result.sent_bytes < 6.1 * MB  # five files, one of them also by its link
    last = fetch.progress[-1]
    assert (last.bytes, last.files) == (last.total_bytes, last.total_files) == (
        result.bytes, result.files
    )  # fmt: skip


def test_what_is_home_already_is_not_fetched(fetch):
    fetch()
    (fetch.into / "output" / "1.pt").write_bytes(bytes(MB))  # same size, other content
    (fetch.into / "output" / "2.pt").unlink()
    assert 2 * MB <= fetch().sent_bytes < 2.1 * MB
    fetch.same()
    assert fetch().sent_bytes == 0


def test_survey_lists_links_inside_only(fetch):
    (fetch.output / "out").symlink_to("/etc/passwd")
    (fetch.output / "gone").symlink_to("nothing")
    (fetch.output / "folder").symlink_to("sub")
    os.mkfifo(fetch.output / "pipe")
    paths = {item.path for item in fetch.survey()}
    assert "output/best.pt" in paths
    assert not paths & {"output/out", "output/gone", "output/pipe"}
    assert not any(path.startswith("output/folder") for path in paths)


@pytest.mark.parametrize("verb", ["survey", "digest", "send", "read"])
@pytest.mark.parametrize("path", ["/etc/passwd", "{root}/../../x", "{root}x", "{root}/output/out"])
def test_paths_out_of_the_run_are_refused(fetch, verb, path):
    (fetch.output / "out").symlink_to("/etc")
    path = path.format(root=fetch.far.root)
    request = {
        "survey": {"roots": [path], "codecs": []},
        "read": {"path": path, "copy": False, "codecs": []},
        "digest": {"paths": [path]},
        "send": {"base": path, "codecs": []},
    }[verb]

    async def ask(line):
        async with line.talk(verb, request) as talk:
            if verb == "send":
                await talk.send_json(wire.JSON, {"ask": [["passwd", 0, 10]]})
            await talk.result()

    with pytest.raises(errors.TowlineError, match="out"):
        fetch.far.run(ask)


def test_an_old_python_sends_too(tmp_path):
    python = old_python()
    if python is None:
        pytest.skip("there is no python3.6 here")
    fetch = Download(tmp_path, python=python)
    trees.write(fetch.output, {b"caf\xc3\xa9\xff": (b"1" * MB, 0o644), b"new\nline": (b"2", 0o644)})
    fetch(fetch.survey())
    fetch.same()


@settings(max_examples=10, deadline=None)
@given(tree=trees.trees)
def test_any_tree_comes_home_as_it_is(tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp("download")
    fetch = Download(folder)
    trees.write(fetch.output, tree)
    fetch(fetch.survey())
    fetch.same()
    shutil.rmtree(folder)


def test_it_is_taken_up_again_after_a_cut_anywhere(fetch, alone):
    items = fetch.list()
    for number in range(8):
        shutil.rmtree(fetch.into, ignore_errors=True)
        at = (0, 5, 12, 5000)[number] if number < 4 else 6 * MB * (number - 3) // 5
        fetch.far.dialer.cuts = [(None, at)]
        assert fetch(items).sent_bytes < 6 * MB + 1.3 * MB
        fetch.same()


def test_many_cuts_send_little_twice_and_the_time_starts_anew(fetch, alone):
    items = fetch.list()
    fetch.far.dialer.cuts = [(None, 1_500_000)] * 8
    fetch.far.dialer.on_open = lambda argv: fetch.far.clock.advance(400)  # 600 are allowed
    assert fetch(items).sent_bytes < 6 * MB + 8 * 1.1 * MB
    fetch.same()


def test_a_later_process_takes_up_what_an_earlier_one_left(fetch, alone):
    items = fetch.list()
    fetch.far.dialer.cuts = [(None, 3_500_000)] + [(0, None)] * 100
    fetch.far.dialer.on_open = lambda argv: fetch.far.clock.advance(150)
    with pytest.raises(errors.ConnectionLost) as caught:
        fetch(items)
    assert caught.value.resumable
    fetch.far.dialer.cuts = []
    assert fetch(items).sent_bytes < 4 * MB
    fetch.same()


def test_a_killed_sender_is_followed_by_another(fetch):
    killed = []

    def report(progress):
        if progress.bytes > MB * (len(killed) + 1) and len(killed) < 3:
            killed.append(progress.bytes)
            fetch.far.kill_receiver()

    fetch(report=report)
    assert len(killed) == 3
    fetch.same()


def test_a_file_that_changed_comes_home_as_it_is_now_and_its_true_hash_is_told(fetch):
    items = fetch.list()
    (fetch.output / "2.pt").write_bytes(b"new content" * 1000)
    result = fetch(items)
    fetch.same()
    fresh = hashlib.sha256(b"new content" * 1000).hexdigest()
    assert result.changed == {"output/2.pt": fresh}
    assert result.bytes == sum(i.size_bytes for i in items) - MB + 11000


def test_a_file_that_grew_is_fetched_as_it_was_listed(fetch):
    items = fetch.list()
    with (fetch.output / "2.pt").open("ab") as file:
        file.write(b"more")
    assert fetch(items).changed == {}
    assert (fetch.into / "output" / "2.pt").stat().st_size == MB


def restless(fetch):
    """From now on a file is written anew whenever it is looked at."""
    rng = random.Random(2)
    fetch.far.dialer.on_open = lambda argv: (fetch.output / "2.pt").write_bytes(rng.randbytes(1000))


def test_a_file_that_keeps_changing_holds_nothing_up_and_is_named(fetch):
    items = fetch.list()
    restless(fetch)
    result = fetch(items)
    assert result.restless == ("output/2.pt",)
    assert (result.files, result.gone) == (len(items) - 1, ())
    assert not (fetch.into / "output" / "2.pt").exists()
    assert (fetch.into / "output" / "4.pt").exists()
    assert not list(fetch.into.rglob(".towline-*"))


def test_a_file_that_stands_still_and_arrives_wrong_is_an_error(fetch, monkeypatch):
    item = next(i for i in fetch.list() if i.path == "output/2.pt")
    close = download_files.Growing.close
    monkeypatch.setattr(download_files.Growing, "close", lambda self: close(self)[::-1])
    monkeypatch.setattr(connections, "_WORTH_BYTES", 1 << 60)
    with pytest.raises(errors.ChecksumMismatch, match=r"2\.pt did not arrive as it is"):
        fetch([item])


def test_a_file_that_goes_away_is_named_and_the_others_are_home(fetch):
    items = fetch.list()
    (fetch.output / "2.pt").unlink()
    assert fetch(items).gone == ("output/2.pt",)
    assert (fetch.into / "output" / "4.pt").exists()


# -- this machine's disk --------------------------------------------------------------------------


def one(path, content=b"x"):
    sha256 = hashlib.sha256(content).hexdigest()
    return RemoteFile(path=path, size_bytes=len(content), mode=0o644, mtime_ns=0, sha256=sha256)


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "a//x", ".", "..", "", "a/", "./x", "a\0b", "a/./b"]
)
def test_paths_that_lead_out_are_refused(tmp_path, path):
    with pytest.raises(errors.LocalWriteError, match="leads out"):
        Landing(tmp_path, [one(path)])


@pytest.mark.parametrize(
    "name", ["CON", "nul.txt", "a:b", "a?", "back\\slash", "end.", "end ", "x\ny"]
)
def test_names_that_windows_refuses_are_errors_there(tmp_path, monkeypatch, name):
    monkeypatch.setattr(download_files, "_WINDOWS", True)
    with pytest.raises(errors.LocalWriteError, match="Windows can't hold"):
        Landing(tmp_path, [one(f"output/{name}")])
    Landing(tmp_path, [one("output/console.pt")])


def test_names_that_collide_on_this_disk_are_an_error(tmp_path, monkeypatch):
    items = [one("Model.pt", b"1"), one("model.pt", b"2")]
    landing = Landing(tmp_path, items)
    landing.look()
    landing.begin()
    landing.write(0, 0, memoryview(b"1"))
    monkeypatch.setattr(Path, "exists", lambda self: True)  # as a disk that folds case would say
    monkeypatch.setattr(Path, "samefile", lambda self, other: True)
    with pytest.raises(errors.LocalWriteError, match="can't hold both"):
        landing.write(1, 0, memoryview(b"2"))


def test_bytes_that_were_not_asked_for_are_refused(tmp_path):
    landing = Landing(tmp_path, [one("a", b"12345"), one("b")])
    landing.look()
    landing.begin()
    landing.write(0, 0, memoryview(b"12"))
    with pytest.raises(errors.CommandFailed, match="not asked for"):
        landing.write(0, 2, memoryview(b"3456"))
    landing.rest()
    landing.write(1, 0, memoryview(b"x"))
    with pytest.raises(errors.CommandFailed, match="not asked for"):
        landing.write(1, 0, memoryview(b"x"))


def test_a_folder_or_file_in_the_way_is_a_clear_error(fetch):
    (fetch.into / "output" / "0.pt" / "inner").mkdir(parents=True)
    with pytest.raises(errors.LocalWriteError, match=r"0\.pt can't be written") as caught:
        fetch()
    assert "towline resume" in caught.value.hint
    shutil.rmtree(fetch.into)
    fetch.into.write_text("a file")
    with pytest.raises(errors.LocalWriteError, match="can't be written"):
        fetch()


@pytest.mark.parametrize("code", [28, 30, 13])
def test_a_disk_that_takes_no_more_is_a_clear_error_and_can_be_resumed(fetch, monkeypatch, code):
    items = fetch.list()
    whole = download_files._set_time

    def refuse(path, mtime_ns):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(download_files, "_set_time", refuse)
    with pytest.raises(errors.LocalWriteError, match=os.strerror(code)) as caught:
        fetch(items)
    assert caught.value.resumable
    assert not list(fetch.into.rglob("[!.]*.pt"))
    monkeypatch.setattr(download_files, "_set_time", whole)
    fetch(items)
    fetch.same()


def test_a_link_in_the_way_is_replaced_and_not_followed(fetch, tmp_path):
    (fetch.into / "output").mkdir(parents=True)
    (tmp_path / "precious").write_text("precious")
    (fetch.into / "output" / "0.pt").symlink_to(tmp_path / "precious")
    fetch()
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (fetch.into / "output" / "0.pt").is_symlink()
    fetch.same()


def test_the_same_path_twice_is_fetched_once(fetch):
    items = fetch.list()
    fetch([*items, items[0], replace(items[1])])
    fetch.same()
