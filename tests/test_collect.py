"""Promise 3: what an instance says of its files is taken as hostile, and looked into in order."""

import asyncio
import contextlib
import json

import pytest

from towline import collect, errors
from towline.core import sieve
from towline.core.instance import run_id_from
from towline.core.layout import RemoteLayout
from towline.onboard import blocks, wire

LAYOUT = RemoteLayout("/home/u", run_id_from(b"abcdefgh"))
START = 1_000_000_000.0


class Instance:
    """Answers `survey`, `look` and `examine` from a table, and notes what it is asked."""

    layout = LAYOUT

    def __init__(self, checks=None, uploaded=(), rows=None, files=(), looks=(), **result):
        self.checks = checks or {}
        self.uploaded = uploaded
        self.rows = rows or [row(path) for path in [*self.checks, *files]]
        self.looks = list(looks)  # what the next looks see: {path: (size, moving)}
        self.result = {"files": len(self.rows), "unread": [], "unread_count": 0} | result
        self.examined, self.surveys, self.unread = [], [], []

    async def persist(self, work):
        return await work()

    @contextlib.asynccontextmanager
    async def talk(self, verb, args):
        assert verb == "survey"
        self.surveys.append(args)
        yield self

    async def frames(self):
        for folder, one in self.rows:
            yield wire.ROWS, blocks.wrap(json.dumps([[folder, [one]]]).encode(), "zlib")
        yield wire.RESULT, json.dumps(self.result)

    async def call(self, verb, args):
        paths = [path.removeprefix(LAYOUT.root + "/") for path in args["paths"]]
        if verb == "look":
            seen = self.looks.pop(0) if len(self.looks) > 1 else (self.looks or [{}])[0]
            known = {f"{folder}/{one[0]}": one for folder, one in self.rows}
            figures = {path: seen.get(path, (known[path][1], False)) for path in paths}
            return {"files": {f"{LAYOUT.root}/{path}": [size, known[path][2], moving]
                              for path, (size, moving) in figures.items()}}  # fmt: skip
        self.examined += paths
        return {
            "checks": {f"{LAYOUT.root}/{path}": self.checks.get(path, ["whole", "zip", ""]) for path in paths},
            "uploaded": {f"{LAYOUT.root}/{path}": "code/x" for path in paths if path in self.uploaded},
            "unread": [f"{LAYOUT.root}/{path}" for path in paths if path in self.unread],
        }  # fmt: skip


def row(path, size=9, age=0, says=""):
    folder, _, name = path.rpartition("/")
    return folder, [name, size, int((START + 5 - age) * 1e9), 0o644, says]


def found(instance, explicit=None, waiting=None):
    return asyncio.run(collect.find(instance, START, explicit, waiting))


WHOLE, CUT = ["whole", "zip", ""], ["damaged", "", "it is cut off"]


@pytest.mark.parametrize(
    ("folder", "name"),
    [("output/../..", "a"), ("/etc", "passwd"), ("output//b", "a"), ("dataset", "a"), ("output", ".."),
     ("output", ""), ("output", "../../etc/passwd"), (".", "a"), ("", "a")],
)  # fmt: skip
def test_a_path_that_leads_out_is_refused(folder, name):
    hostile = Instance(rows=[(folder, [name, 1, int(2e18), 0o644, ""])])
    with pytest.raises(errors.CommandFailed, match="leads out"):
        asyncio.run(collect.survey(hostile, START))


def test_a_list_that_is_not_whole_counts_as_none():
    for came, told in ((3, 4), (3, 2), (0, 1)):
        instance = Instance(rows=[row(f"output/{n}") for n in range(came)] or [row("output/x")])
        instance.rows = instance.rows[:came]
        instance.result["files"] = told
        with pytest.raises(errors.TransferError, match=f"of {told} rows .* {came} came"):
            asyncio.run(collect.survey(instance, START))


def test_of_the_working_folder_what_is_older_than_the_training_is_not_listed():
    rows = [row("code/old", age=9), row("code/new"), row("output/old", age=9)]
    listing = asyncio.run(collect.survey(Instance(rows=rows), START))
    assert [file.path for file in listing] == ["code/new", "output/old"]
    assert len(listing) == 2


def test_a_model_that_is_named_is_looked_for_by_its_name_alone():
    instance = Instance({"output/weights/best.pt": WHOLE})
    assert found(instance, "output/weights/best.pt").model.path == "output/weights/best.pt"
    asked = instance.surveys[0]
    assert asked["names"] == [f"{LAYOUT.root}/{top}output/weights/best.pt" for top in ("", "code/")]
    assert asked["flat"] == [f"{LAYOUT.root}/{top}output/weights" for top in ("", "code/")]
    for pattern, roots in {
        "runs/*/best.pt": ["code/runs"],
        "output/**/best.pt": ["output", "code/output"],
        "**/best.pt": ["output", "code"],
        "./best.pt": ["code/best.pt"],
        "../x": [],
        "/etc/passwd": [],
    }.items():
        found(instance, pattern)
        assert instance.surveys[-1]["roots"] == [f"{LAYOUT.root}/{root}" for root in roots]


def test_a_named_model_that_is_listed_twice_is_one():
    rows = [row("output/best.pt"), row("output/best.pt")]
    assert len(found(Instance(rows=rows), "output/best.pt").search.ranked) == 1


def test_among_a_hundred_thousand_files_that_may_be_models_the_model_is_found(monkeypatch):
    monkeypatch.setattr(sieve, "MOST_SINGLES", 100)
    rows = [row(f"output/labels/COCO_val2017_{n:012d}.jpg.txt") for n in range(20_000)]
    rows.insert(10_000, row("code/runs/detect/train/weights/best.pt"))
    rows.insert(15_000, row("code/runs/detect/train/args.yaml"))
    one = found(Instance(rows=rows))
    assert one.model.path == "code/runs/detect/train/weights/best.pt"
    assert one.model.why.startswith("Ultralytics")
    assert len(one.listing) == 20_002


def test_what_could_not_be_looked_into_is_known():
    unread = {"unread": [["output/weights", "Permission denied"]], "unread_count": 7}
    one = found(Instance(files=["output/a.png"], **unread))
    assert one.listing.unread == [("output/weights", "Permission denied")]
    assert one.listing.unread_count == 7
    instance = Instance({"output/best.pt": CUT, "output/last.pt": WHOLE})
    instance.unread = ["output/best.pt", "output/last.pt"]
    one = found(instance)
    assert (one.model.path, one.unread_before) == ("output/last.pt", ["output/best.pt"])


def test_only_damaged_ones_before_the_model_are_told():
    checks = {"output/best.pt": CUT, "output/last.pt": WHOLE, "output/e1.pt": CUT}
    one = found(Instance(checks))
    assert one.model.path == "output/last.pt"
    assert [bad.path for bad in one.damaged] == ["output/best.pt"]
    rows = {row["path"]: row["check"] for row in one.rows(10)}
    assert rows["output/best.pt"] == "damaged: it is cut off"


def test_without_a_whole_one_there_is_no_model():
    one = found(Instance({"output/best.pt": CUT, "output/last.pt": CUT}))
    assert one.model is None
    assert [bad.path for bad in one.damaged] == ["output/best.pt", "output/last.pt"]


def test_hundreds_of_damaged_ones_are_looked_through_in_batches():
    checks = {f"output/e{n}.pt": CUT for n in range(130)} | {"output/z.pt": WHOLE}
    instance = Instance(checks, rows=[row(path, age=path[7] == "z") for path in checks])
    assert found(instance).model.path == "output/z.pt"
    assert len(instance.examined) == 131


def test_no_more_is_looked_into_than_is_needed():
    instance = Instance({f"output/e{n}.pt": WHOLE for n in range(130)})
    found(instance)
    assert len(instance.examined) == 40


def test_a_json_or_text_file_is_a_model_only_by_its_content():
    booster = {
        "output/xgb.json": ["whole", "booster JSON", ""],
        "output/a.json": ["unknown", "", ""],
    }
    one = found(Instance(booster))
    assert one.model.path == "output/xgb.json"
    assert [row["path"] for row in one.rows(10)] == ["output/xgb.json"]
    cut = found(Instance({"output/xgb.json": ["damaged", "booster JSON", "it is cut off"]}))
    assert [bad.path for bad in cut.damaged] == ["output/xgb.json"]
    assert found(Instance({"output/a.json": ["unknown", "", ""]})).model is None
    named = found(Instance({"output/a.json": ["unknown", "", ""]}), explicit="output/a.json")
    assert named.model.path == "output/a.json"


def test_what_came_with_the_upload_is_none_even_when_named():
    instance = Instance(
        {"output/best.pt": WHOLE, "output/e.pt": WHOLE}, uploaded={"output/best.pt"}
    )
    assert found(instance).model.path == "output/e.pt"
    assert found(instance, explicit="output/best.pt").model is None


def test_a_model_that_moves_is_waited_for_and_one_that_only_is_held_open_is_not():
    path = "output/best.pt"
    grows = [{path: (n, True)} for n in range(5)] + [{path: (9, False)}]
    told = []
    instance = Instance(rows=[row(path)], looks=grows)
    one = found(instance, waiting=told.append)
    assert one.model.size_bytes == 9
    assert told == [path] * 5
    assert len(instance.surveys) == 2  # once more at the end: a save may have made new files
    told.clear()
    held = Instance(rows=[row(path)], looks=[{path: (9, True)}])
    assert found(held, waiting=told.append).model.path == path
    assert 3 < len(told) < 20
    assert found(held).model.moving  # without waiting, as for checkpoints


def test_a_model_that_never_stands_still_is_waited_for_so_long_and_no_longer(monkeypatch):
    monkeypatch.setattr(collect, "_MOST_LOOKS", 20)
    path, told = "output/best.pt", []
    looks = [{path: (n, True)} for n in range(100)]
    assert found(Instance(rows=[row(path)], looks=looks), waiting=told.append).model.moving
    assert len(told) == 20


def test_a_model_with_a_missing_shard_is_damaged():
    shards = [f"output/m-0000{n}-of-00003.safetensors" for n in (1, 3)]
    one = found(Instance(dict.fromkeys(shards, WHOLE)))
    assert one.model is None
    assert "it lacks 1 shard" in str(one.checks["output/m"])
