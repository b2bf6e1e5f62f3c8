"""Commands that look, on one finished run."""

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

STATUS = {
    "id": None, "name": None, "state": None, "step": None, "provider": None,
    "instance": {"id", "address", "price_usd_per_hour", "state"},
    "progress": {"epoch", "total_epochs", "step", "total_steps", "fraction", "eta_s", "metrics"},
    "machine": {"at", "cpu", "cpus", "memory_bytes", "memory_total_bytes", "disk_free_bytes", "disk_total_bytes", "shm_free_bytes", "gpus"},
    "stalled": None,
    "cost": {"spent_usd", "projected_usd", "cap_usd"},
    "transfer": {"direction", "bytes", "total_bytes", "rate_bytes_per_s", "files", "total_files", "eta_s", "connections", "ratio"},
    "model": {"path", "sha256", "size_bytes"},
    "error": {"kind", "message", "hint"},
    "checkpoint": {"path", "at", "epoch", "size_bytes"},
    "created_at": None, "ended_at": None,
}  # fmt: skip
RECEIPT = {
    "run": {"id", "name", "state"},
    "steps": None, "transfers": None,
    "model": {"path", "sha256", "size_bytes", "remote_path", "why", "check", "beside", "candidates"},
    "checkpoint": {"path", "at", "epoch", "size_bytes"},
    "instance": {"provider", "id", "type", "gpu", "driver", "price_usd_per_hour"},
    "release": {"gone", "proof", "at"},
    "as_read": None, "cost_usd": None, "dataset_sha256": None, "code_sha256": None,
    "exit_code": None, "reason": None,
}  # fmt: skip
STEPS = ["acquire", "connect", "deliver", "equip", "execute", "follow", "gather", "release"]


def assert_shape(value, shape):
    assert value.keys() == shape.keys()
    for key, keys in shape.items():
        assert keys is None or value[key].keys() == keys


def test_the_training_brought_its_model_home(finished):
    model = finished.project / "runs" / "noop" / "model.pt"
    assert model.read_bytes() == b"model" * 100
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert "Model: runs/noop/model.pt\n" in finished.train.stdout
    assert digest[:12] in finished.train.stdout
    assert finished.train.stderr == ""
    assert finished.json("status")["model"] == {
        "path": str(model), "sha256": digest, "size_bytes": 500,
    }  # fmt: skip


def test_plain_output_has_one_line_as_a_step_starts_and_one_as_it_ends(finished):
    out = finished.train.stdout
    assert "\x1b" not in out
    for word in ("Renting", "Waiting for SSH", "Uploading", "Training", "Terminating"):
        assert f"\n{word} ...\n" in out
        assert re.search(rf"\n{word}: done \(\d+\.\d s\)\n", out)
    assert "  SSH service ready (" in out
    assert "  epoch 3/3 loss=0.333\n" in out
    assert "hello from the training" not in out


def test_nothing_of_the_run_is_left(finished):
    assert finished.is_clean()


def test_status_json_has_every_key(finished):
    status = finished.json("status")
    assert_shape(status, STATUS)
    assert (status["state"], status["step"]) == ("succeeded", "release")
    assert status["progress"]["metrics"] == {"loss": 0.333}


def test_status_for_people(finished):
    out = finished("status", "noop").stdout
    assert out.startswith("noop (")
    assert "): succeeded\n" in out
    assert re.search(r"\n  model +runs/noop/model.pt \(500 B, SHA-256 [0-9a-f]{64}\)\n", out)
    assert re.search(r"\n  progress +epoch 3/3 loss=0.333\n", out)


def test_a_run_is_found_by_the_beginning_of_its_id(finished):
    run_id = finished.json("status")["id"]
    assert finished.json("status", run_id[:5])["name"] == "noop"


def test_ls_is_an_array_of_the_same_objects(finished):
    assert finished.json("ls") == [finished.json("status")]


def test_ls_for_people(finished):
    head, row = finished("ls").stdout.splitlines()
    assert head.split() == [
        "NAME",
        "ID",
        "STATE",
        "STEP",
        "AGE",
        "COST",
        "MODEL,",
        "ERROR",
        "OR",
        "PROGRESS",
    ]
    assert row.startswith("noop ")
    assert row.endswith("runs/noop/model.pt")


def test_ls_of_nothing_says_how_to_begin(laptop):
    assert "towline train" in laptop("ls").stdout
    assert laptop.json("ls") == []


LOG = ["hello from the training", *(f"epoch {n}/3 loss={1 / n:.3f}" for n in (1, 2, 3))]


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], LOG), (["--tail", "2"], LOG[-2:]), (["--tail", "0"], []), (["-f"], LOG), (["--since", "1h"], LOG)],
    ids=" ".join,
)  # fmt: skip
def test_logs(finished, options, expected):
    assert finished("logs", "noop", *options).stdout.splitlines() == expected


def test_logs_json(finished):
    lines = finished("logs", "--json").stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == LOG


def test_logs_since_uses_the_times_that_were_kept(laptop):
    laptop("train", "-y")
    folder = laptop.home / "runs" / laptop.json("status")["id"]
    now = laptop.json("status")["ended_at"]
    rows = [{"at": now - 600, "size_bytes": 30}, {"at": now, "size_bytes": 90}]
    (folder / "log.times").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{torn")
    assert laptop("logs", "--since", "5m").stdout.splitlines() == LOG[1:]
    assert laptop("logs", "--since", "1h").stdout.splitlines() == LOG
    assert laptop("logs", "--since", "5m", "--tail", "1").stdout.splitlines() == LOG[-1:]
    (folder / "log.times").unlink()
    assert "--since has no effect" in laptop("logs", "--since", "5m").stdout


def test_a_duration_that_is_none_is_2(finished):
    assert "10x" in finished("logs", "--since", "10x", code=2).stderr


def test_events_json_has_at_and_type_on_every_line(finished):
    events = [json.loads(line) for line in finished("events", "--json").stdout.splitlines()]
    assert all(list(event)[:2] == ["at", "type"] for event in events)
    assert [e["step"] for e in events if e["type"] == "step_started"] == STEPS
    assert events[-1] == {"at": events[-1]["at"], "type": "run_ended", "state": "succeeded"}


def test_events_for_people(finished):
    lines = finished("events").stdout.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  step_started  Renting \.\.\.", lines[0])
    assert lines[-1].endswith("run_ended     succeeded")


def test_receipt_json_is_the_file_and_has_every_key(finished):
    receipt = finished.json("receipt")
    assert_shape(receipt, RECEIPT)
    assert receipt == json.loads((finished.project / "runs/noop/receipt.json").read_text())
    assert [step["step"] for step in receipt["steps"]] == STEPS


def test_receipt_for_people(finished):
    out = finished("receipt").stdout
    assert "\nacquire " in out
    assert "\ngone: local says " in out


def test_attach_and_wait_to_an_ended_run_show_its_end(finished):
    for command in ("attach", "wait"):
        assert finished(command).stdout.startswith("Model: runs/noop/model.pt\n")


@pytest.mark.parametrize("command", ["resume", "stop", "abort", "fetch", "ssh"])
def test_what_has_ended_can_not_be_changed_or_reached(finished, command):
    done = finished(command, "noop", code=2)
    assert done.stderr.startswith("error: ")
    assert "\n\nhint: " in done.stderr
    assert done.stdout == ""


def test_an_unknown_run_is_2_and_json_where_json_is_wanted(finished):
    done = finished("status", "nosuch", "--json", code=2)
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "RunNotFound"
    assert error["hint"]
    assert "nosuch" in done.stderr


def test_gc_finds_nothing_to_end(finished):
    assert finished.json("gc", "--dry-run") == {"orphans": [], "claimed": [], "unreachable": []}
    assert finished("gc").stdout == "no orphans\n"


def test_doctor_is_content(finished):
    out = finished("doctor").stdout
    assert "BAD" not in out
    assert all(f"ok   {name}:" in out for name in ("python", "home", "journal", "disk", "settings"))
    report = finished.json("doctor")
    assert report["ok"]
    assert report["checks"][0].keys() == {"name", "message", "fix", "ok"}


def test_doctor_names_a_fix_for_what_is_wrong(laptop):
    laptop.home.mkdir()
    (laptop.home / "towline.db").write_text("no journal at all, but longer than a header" * 9)
    config = Path(laptop.env["TOWLINE_CONFIG"])
    config.write_text("providders: {}\n")
    out = laptop("doctor", code=2).stdout
    assert "BAD  journal:" in out
    assert "BAD  settings:" in out
    assert out.count("\n     fix: ") == out.count("BAD  ")
    assert not laptop.json("doctor", code=2)["ok"]
    (laptop.home / "towline.db").unlink()


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_the_home_is_closed_to_others(finished):
    assert finished.home.stat().st_mode & 0o777 == 0o700
    files = [
        path for path in finished.home.rglob("*") if path.is_file() and "local" not in path.parts
    ]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}


def test_schema_is_json_schema(finished):
    schema = json.loads(finished("schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "dataset" in schema["properties"]


def test_a_reader_that_has_enough_is_no_error(finished):
    command = f"{' '.join(finished.argv('events'))} | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=finished.env, cwd=finished.project, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
