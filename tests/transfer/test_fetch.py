"""Promise 3, down: what never stands still comes as it is read, and keeps nothing else from coming."""

import hashlib
import os

import pytest

from tests.transfer.test_download import alone, fetch, restless
from towline import collect
from towline.core.artifact import FoundFile
from towline.transfer import fetch as fetching
from towline.transfer.fetch import fetch_many

__all__ = ["alone", "fetch"]


def bring(fetch, work=fetching.fetch, **options):
    async def ask(line):
        files = list(await collect.survey(line, 0))
        return await work(line, files, fetch.into, fetch.progress.append, **options)

    return fetch.far.run(ask)


@pytest.mark.parametrize("copy", [False, True])
def test_what_never_stops_changing_comes_as_it_was_read_and_is_named(fetch, copy):
    restless(fetch)
    came = bring(fetch, copy=copy)
    assert came.as_read == ["output/2.pt"]
    home = (fetch.into / "output" / "2.pt").read_bytes()
    assert len(home) == 1000
    assert came.sha256["output/2.pt"] == hashlib.sha256(home).hexdigest()
    assert came.done.files == len(came.sha256) == 47
    assert "output/2.pt never stopped changing" in came.notes()[0]
    assert came.row()["as_read"] == ["output/2.pt"]
    assert not list(fetch.into.rglob(".towline-*"))
    assert {path.name for path in fetch.far.control.iterdir()} <= {"onboard.pyz", "contact"}


def test_a_checkpoint_is_not_taken_as_it_is_read(fetch):
    restless(fetch)
    came = bring(fetch, as_read=False)
    assert came.as_read == []
    assert "output/2.pt" not in came.sha256
    assert not (fetch.into / "output" / "2.pt").exists()


def test_a_file_that_only_grows_comes_as_a_beginning_of_itself(fetch):
    path = fetch.output / "2.pt"

    def grow(_argv):
        with path.open("ab") as file:
            file.write(b"more")

    fetch.far.dialer.on_open = grow
    came = bring(fetch)
    home = (fetch.into / "output" / "2.pt").read_bytes()
    assert path.read_bytes().startswith(home)
    assert came.sha256["output/2.pt"] == hashlib.sha256(home).hexdigest()


def test_what_can_not_be_read_there_is_named_and_stays(fetch, monkeypatch):
    if os.geteuid() == 0:
        text = "raise PermissionError(13, 'no')"
        pyz = fetch.far.control / "onboard.pyz"
        refuse_in(pyz, "2.pt", text)
    else:
        (fetch.output / "2.pt").chmod(0)
    came = bring(fetch)
    assert came.unread == ["output/2.pt"]
    assert "output/2.pt can't be read on the instance" in came.notes()[0]
    assert (fetch.into / "output" / "4.pt").exists()


def refuse_in(pyz, name, raising):
    """Root may read all: the program on the instance is told that it may not."""
    import zipfile

    with zipfile.ZipFile(pyz) as packed:
        files = {one: packed.read(one) for one in packed.namelist()}
    with zipfile.ZipFile(pyz, "w") as packed:
        for one, whole in files.items():
            data = whole
            if one.endswith("safe_files.py"):
                text = data.decode().replace(
                    "def open_regular(path):",
                    f"def open_regular(path):\n    if path.endswith(b'{name}'): {raising}",
                )
                assert raising in text
                data = text.encode()
            packed.writestr(one, data)


def test_any_number_of_files_comes_in_batches_with_the_progress_of_all(fetch, monkeypatch):
    monkeypatch.setattr(fetching, "_BATCH", 10)
    came = bring(fetch, fetch_many)
    fetch.same()
    assert came.done.files == 47
    totals = {(one.total_files, one.total_bytes) for one in fetch.progress if one.total_files}
    assert totals == {(47, came.done.bytes)}
    assert fetch.progress[-1].files == 47
    assert [one.files for one in fetch.progress] == sorted(one.files for one in fetch.progress)


def test_the_line_breaks_while_it_is_read_and_it_is_read_again(fetch, alone):
    async def ask(line):
        file = FoundFile(path="output/3.pt", size_bytes=1, mode=0o600, mtime_ns=0)
        item = fetching.RemoteFile(
            path=file.path, size_bytes=1, mode=0o600, mtime_ns=0, sha256="0" * 64
        )
        return await fetching.take_as_read(line, line.layout.root, item, fetch.into, copy=True)

    fetch.far.dialer.cuts = [(None, 300_000)] * 2
    came = fetch.far.run(ask)
    assert came.size_bytes == 1_000_000
    assert (fetch.into / "output/3.pt").read_bytes() == (fetch.output / "3.pt").read_bytes()
    assert not list(fetch.into.rglob(".towline-*"))
    (fetch.output / "3.pt").unlink()
    assert fetch.far.run(ask) is None
