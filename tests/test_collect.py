"""Promise 3: what an instance says of its files is taken as hostile, and looked into in order."""

import asyncio

import pytest

from towline import collect, errors
from towline.core.instance import run_id_from
from towline.core.layout import RemoteLayout

LAYOUT = RemoteLayout("/home/u", run_id_from(b"abcdefgh"))
START = 1_000_000_000.0


class Instance:
    """Answers `survey` and `examine` from a table, and notes what it is asked."""

    layout = LAYOUT

    def __init__(self, checks=None, uploaded=(), surveys=None, files=()):
        self.checks = checks or {}
        self.uploaded = uploaded
        self.surveys = surveys or [[row(path) for path in [*self.checks, *files]]]
        self.examined = []

    async def call(self, verb, args=None):
        if verb == "survey":
            return {"files": self.surveys.pop(0) if len(self.surveys) > 1 else self.surveys[0]}
        paths = [path.removeprefix(LAYOUT.root + "/") for path in args["paths"]]
        self.examined += paths
        return {
            "checks": {f"{LAYOUT.root}/{path}": self.checks.get(path, ["whole", "zip", ""]) for path in paths},
            "uploaded": {f"{LAYOUT.root}/{path}": "code/x" for path in paths if path in self.uploaded},
        }  # fmt: skip


def row(path, root=None, size=9, age=0, **more):
    root = root or (LAYOUT.output if path.startswith("output/") else LAYOUT.code)
    inner = path.partition("/")[2]
    return {"root": root, "path": inner, "size": size, "mode": 0o644,
            "mtime_ns": int((START + 5 - age) * 1e9), **more}  # fmt: skip


def found(instance, explicit=None, waiting=None):
    return asyncio.run(collect.find(instance, START, explicit, waiting))


WHOLE, CUT = ["whole", "zip", ""], ["damaged", "", "it is cut off"]


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "a/../../../b", "", "/etc/passwd", "a//b", "./a"]
)
def test_a_path_that_leads_out_is_refused(path):
    hostile = row("output/a") | {"path": path}
    with pytest.raises(errors.CommandFailed, match="leads out"):
        asyncio.run(collect.survey(Instance(surveys=[[hostile]]), START))
    with pytest.raises(errors.CommandFailed, match="leads out"):
        asyncio.run(collect.survey(Instance(surveys=[[row("x", root="/etc")]]), START))


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
    instance = Instance(checks, surveys=[[row(path, age=path[7] == "z") for path in checks]])
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
    grows = [[row("output/best.pt", size=n, moving=True)] for n in range(5)]
    told = []
    one = found(Instance(surveys=[*grows, [row("output/best.pt", size=9)]]), waiting=told.append)
    assert one.model.size_bytes == 9
    assert told == ["output/best.pt"] * 5
    told.clear()
    held = Instance(surveys=[[row("output/best.pt", moving=True)]])
    assert found(held, waiting=told.append).model.path == "output/best.pt"
    assert 3 < len(told) < 20
    assert found(held).model.moving  # without waiting, as for checkpoints


def test_a_model_with_a_missing_shard_is_damaged():
    shards = [f"output/m-0000{n}-of-00003.safetensors" for n in (1, 3)]
    one = found(Instance(dict.fromkeys(shards, WHOLE)))
    assert one.model is None
    assert "it lacks 1 shard" in str(one.checks["output/m"])
