"""Promise 3: what a training wrote is listed whole, and what can't be listed or read is said."""

import hashlib
import io
import os
import subprocess
import sys

from towline.onboard import integrity, safe_files, wire
from towline.onboard.examine import examine
from towline.onboard.survey import survey


def test_survey_sees_what_is_still_written_to(machine):
    out = machine.root / "output"
    out.mkdir()
    (machine.root / "code").mkdir()
    (out / "still.pt").write_bytes(b"done")
    held = (out / "held.pt").open("wb")
    grows = subprocess.Popen(
        [sys.executable, "-c", "import sys, time\nwhile True:\n open(sys.argv[1], 'a').write('x')\n time.sleep(.01)",
         str(out / "grows.pt")],
    )  # fmt: skip
    try:
        while not (out / "grows.pt").exists():
            pass
        paths = [str(path) for path in out.iterdir()] + [str(out / "gone.pt")]
        rows = machine.ask("look", paths=paths, settle_s=0.3)["files"]
    finally:
        grows.kill()
        grows.wait()
        held.close()
    moving = {path.rpartition("/")[2]: row[2] for path, row in rows.items()}
    assert moving == {"still.pt": False, "grows.pt": True, "held.pt": sys.platform == "linux"}


def test_survey_hears_what_trainers_say(machine):
    folder = machine.root / "output" / "checkpoint-5"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text('{"best_model_checkpoint": "out/checkpoint-5"}')
    (machine.root / "output" / "trainer_state.json").write_text("{ not JSON")
    (machine.root / "output" / "last_checkpoint").write_text("model_0004.pth\n")
    roots = [str(machine.root / "output")]
    files, _result = machine.survey(roots=roots, hints=True)
    assert {path: row[4] for path, row in files.items()} == {
        "output/checkpoint-5/trainer_state.json": "out/checkpoint-5",
        "output/trainer_state.json": "",
        "output/last_checkpoint": "model_0004.pth",
    }
    files, _result = machine.survey(roots=roots)
    assert {row[4] for row in files.values()} == {""}


def test_survey_lists_a_folder_of_thousands_in_frames_whole(machine):
    out = machine.root / "output" / "predictions"
    out.mkdir(parents=True)
    names = [b"n%05d.txt" % n for n in range(6000)] + [b"\xff\xfe", b"new\nline"]
    for name in names:
        open(os.path.join(os.fsencode(out), name), "w").close()
    files, result = machine.survey(roots=[str(machine.root / "output")])
    expected = {"output/predictions/" + os.fsdecode(name) for name in names}
    assert set(files) == expected
    assert result == {"files": 6002, "unread": [], "unread_count": 0}
    assert machine.frames > 1


def test_survey_finds_a_file_by_name_and_what_lies_beside_it(machine):
    out = machine.root / "output"
    for path in ("a/best.pt", "a/more.pt", "a/deep/x.pt", "b/y.pt", ".hidden/z.pt"):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).touch()
    named = str(out / "a" / "best.pt")
    files, _ = machine.survey(roots=[named], names=[named], flat=[str(out / "a")])
    assert set(files) == {"output/a/best.pt", "output/a/more.pt"}
    files, _ = machine.survey(roots=[str(out / ".hidden")], names=[str(out / "none")])
    assert set(files) == {"output/.hidden/z.pt"}


def test_what_can_not_be_looked_into_is_named_with_the_reason(here, monkeypatch):
    """Rule: no folder that can't be read looks like one that is empty."""
    inner = here.root / "output" / "weights"
    inner.mkdir(parents=True)
    (inner / "best.pt").touch()
    (here.root / "output" / "seen").touch()
    whole = os.scandir

    def refuse(path):
        if os.fsdecode(path).endswith("weights"):
            raise PermissionError(13, "Permission denied", path)
        return whole(path)

    monkeypatch.setattr(os, "scandir", refuse)
    pipe = wire.Pipe(None, io.BytesIO())
    request = {"root": str(here.root), "roots": [str(here.root / "output")], "codecs": []}
    result = survey(request, pipe)
    assert result == {
        "files": 1, "unread": [["output/weights", "Permission denied"]], "unread_count": 1
    }  # fmt: skip


def test_an_unreadable_file_is_said_to_be_unread_and_not_only_damaged(here, monkeypatch):
    (here.root / "output").mkdir()
    path = here.root / "output" / "best.pt"
    path.write_bytes(b"x" * 100)

    def refuse(real):
        raise PermissionError(13, "Permission denied", real)

    monkeypatch.setattr(integrity, "check", refuse)
    request = {"root": str(here.root), "paths": [str(path)]}
    answer = examine(request, wire.Pipe(None, io.BytesIO()))
    assert answer["unread"] == [str(path)]
    assert answer["checks"][str(path)][2] == "it can't be read: Permission denied"


def test_a_file_that_grows_faster_than_it_is_hashed_is_hashed_up_to_its_size(tmp_path):
    path = tmp_path / "grows"
    path.write_bytes(b"12345")
    fed = []

    def grow(**_figures):
        fed.append(1)
        with path.open("ab") as file:
            file.write(b"more")
        assert len(fed) < 5

    sha256, size = safe_files.hash_file(str(path), grow)
    assert (sha256, size) == (hashlib.sha256(b"12345").hexdigest(), 5)
