"""`towline plan`: says what would happen, and does none of it."""

import os
import random
import re

import psutil
import pytest

from tests.contracts.test_ssh import SSHD, serving
from towline.cli import plan as plan_module
from towline.cli.plan import _unwatched_lines
from towline.core.instance import Features
from towline.core.task import Limits
from towline.planning import _unwatched

PLAN = {
    "send": None, "skipped": None, "files": None, "bytes": None, "sent_bytes": None, "ratio": None,
    "sample_bytes": None, "codec": None, "offers": None, "dataset": None,
    "left_out": None, "unreachable": None,
    "uplink": {"bytes_per_s", "source", "host", "connections", "rtt_s"},
    "upload": {"seconds", "cost_usd"},
    "cost": {"projected_usd", "cap_usd", "unwatched"},
    "safety": set(Features(host_key_grade="A").data()),
}  # fmt: skip
TASK = "name: noop\ncode: .\ndataset: data\ncommand: python3 train.py\n"
MB = 1_000_000


def assert_shape(value):
    assert value.keys() == PLAN.keys()
    for key, keys in PLAN.items():
        assert keys is None or value[key].keys() == keys


@pytest.fixture
def project(laptop):
    """A laptop with a dataset of 1.25 MB that halves."""
    laptop.write(TASK)
    data = laptop.project / "data"
    for name in ("images", "labels", ".git", "__pycache__"):
        (data / name).mkdir(parents=True)
    (data / "images" / "a.jpg").write_bytes(random.Random(1).randbytes(600_000))
    for number in range(10):
        (data / "labels" / f"{number}.txt").write_bytes(b"0 0.5\n" * 10_000)
    (data / "README").write_bytes(b"." * 50_000)
    (data / ".env").write_text("KEY=value")
    return laptop


def rows(text):
    """What stands behind each label, lines without one joined to the one before."""
    found = {}
    label = None
    for line in text.splitlines():
        if match := re.match(r"(\S.*?)  +(.*)", line):
            label = match[1]
            found[label] = [match[2]]
        elif line.startswith("  "):
            found[label].append(line.strip())
    return found


def test_the_plan_for_people(project):
    project.settle(
        "{offers: [{type: big, price_usd_per_hour: 36}, {type: small, price_usd_per_hour: 18}]}"
    )
    project.write(TASK + "limits: {max_duration: 2h}\n")
    done = project("plan", "--uplink", "1.6")
    found = rows(done.stdout)
    assert found["Dataset"] == [
        "data: 12 files, 1.2 MB",
        "images/: 1 file, 600.0 kB", "labels/: 10 files, 600.0 kB", "README: 1 file, 50.0 kB",
    ]  # fmt: skip
    assert found["Code"][0].startswith(".: 2 files, ")
    assert found["Skipped"] == [
        "dataset/.env (may hold secrets)",
        "dataset/.git (version control)",
        "dataset/__pycache__ (cache)",
    ]
    assert re.fullmatch(
        r"about 60\d\.\d kB \(2\.1x smaller; judged by all of it\)", found["On the line"][0]
    )
    assert found["Uplink"] == ["1.6 Mbit/s, as given"]
    assert re.fullmatch(r"about 3\.0 s, \$0\.015 of the instance's time", found["Upload"][0])
    assert found["Offers"] == [
        "local small ($18.00/h, $18.02 with an hour's training), the first to be tried",
        "local big ($36.00/h, $36.03 with an hour's training)",
    ]
    assert found["Cost"] == [
        "$54.30 at most, by the task's limits",
        (
            "the training is ended after 2 h 00 min, the instance after 3 h 01 min at the latest,"
            " once SSH has answered"
        ),
    ]
    assert "grade A" in found["Safety"][0]
    assert found["Safety"][1] == "the instance ends itself when nobody comes back"
    assert "Nothing was rented." in done.stdout
    assert done.stderr == ""


def test_the_plan_as_json_has_every_key(project):
    found = project.json("plan", "--max-cost", "3")
    assert_shape(found)
    assert [one["name"] for one in found["send"]] == ["dataset", "code"]
    assert found["send"][0]["path"] == str(project.project / "data")
    assert found["uplink"] == {
        "bytes_per_s": 2.5e6, "source": "assumed", "host": None, "connections": None, "rtt_s": None,
    }  # fmt: skip
    assert found["upload"] == {"seconds": round(found["sent_bytes"] / 2.5e6, 1), "cost_usd": 0.0}
    away = {"training_s": None, "lifetime_s": None, "over_usd_per_hour": None}
    assert found["cost"] == {"projected_usd": 0.0, "cap_usd": 3.0, "unwatched": away}
    (offer,) = found["offers"]
    assert (offer["provider"], offer["type"], offer["gpu"]) == ("local", "this-machine", None)
    assert (offer["price_usd_per_hour"], offer["available"]) == (0.0, True)


@pytest.mark.parametrize(
    ("features", "over_usd_per_hour", "said"),
    [
        (
            {"end_self_argv": ("x",)},
            0.0,
            "the instance after 59 min 00 s at the latest, once SSH has answered",
        ),
        ({"server_ttl": True}, 0.0, "the instance after 59 min 00 s at the latest"),
        ({}, 2.0, "it bills $2.00 for each further hour until a towline command runs"),
    ],
)
def test_by_how_much_a_cap_may_be_exceeded_with_this_machine_off_is_said(
    features, over_usd_per_hour, said
):
    away = _unwatched(Limits(max_cost=2.0), Features(host_key_grade="A", **features), 2.0)
    assert away == {
        "training_s": 2880.0,
        "lifetime_s": 3540.0,
        "over_usd_per_hour": over_usd_per_hour,
    }
    has_ttl = bool(features.get("server_ttl"))
    lines = _unwatched_lines({"projected_usd": 2.0, "unwatched": away}, has_ttl=has_ttl)
    assert lines[0].startswith("the training is ended after 48 min 00 s")
    assert lines[-1].endswith(said)


def test_a_plan_without_anything_to_send_has_the_same_keys(laptop):
    laptop.write("command: python3 -c pass\n")
    found = laptop.json("plan")
    assert_shape(found)
    assert (found["send"], found["sent_bytes"], found["ratio"]) == ([], 0, None)
    assert rows(laptop("plan").stdout)["On the line"] == ["nothing"]


def test_nothing_is_rented_and_nothing_stored(project):
    before = sorted(project.project.rglob("*"))
    project("plan")
    assert project.json("ls") == []
    assert sorted(project.project.rglob("*")) == before
    assert not (project.home / "local").exists()
    assert project.is_clean()


def test_the_plan_of_an_upload_is_what_the_run_then_sends(project):
    found = project.json("plan")
    project("train", "-y", code=0)
    sent = [one for one in project.json("receipt")["transfers"] if one["direction"] == "upload"]
    assert found["files"] == sum(one["files"] for one in sent)
    assert found["bytes"] == sum(one["bytes"] for one in sent)
    assert found["sent_bytes"] == pytest.approx(sum(one["sent_bytes"] for one in sent), rel=0.05)


def test_long_lists_are_cut_and_the_rest_counted(project):
    offers = ", ".join(f"{{type: t{n}, price_usd_per_hour: {n}}}" for n in range(1, 8))
    project.settle(f"{{offers: [{offers}]}}")
    for number in range(6):
        (project.project / "data" / f"{number}.pyc").touch()
    found = rows(project("plan").stdout)
    assert len(found["Offers"]) == len(found["Skipped"]) == 5
    assert found["Offers"][-1] == "and 3 more; --json lists them all"
    assert found["Skipped"][-1] == "and 5 more; --json lists them all"
    assert len(project.json("plan")["skipped"]) == 9
    assert "no limit is set" in found["Cost"][0]


@pytest.mark.parametrize(
    ("task", "arguments", "code", "message"),
    [
        ("command: make\ndataset: nosuch\n", [], 2, "nosuch does not exist"),
        ("command: make\ndatset: x\n", [], 2, "did you mean 'dataset'"),
        ("command: make\nsecrets: [TL_NOT_SET]\n", [], 2, "TL_NOT_SET"),
        ("command: make\nresources: {provider: nosuch}\n", [], 2, "nosuch"),
        ("command: make\n", ["--uplink", "0"], 2, "--uplink"),
        ("command: make\n", ["--host", "a@@b"], 2, "a@@b"),
        ("command: make\nresources: {max_price_per_hour: 1}\n", [], 4, "no offer that fits"),
    ],
)
def test_what_train_refuses_plan_refuses(laptop, task, arguments, code, message):
    laptop.settle("{price_usd_per_hour: 2}")
    laptop.write(task)
    done = laptop("plan", *arguments, code=code)
    assert message in done.stderr
    assert "hint: " in done.stderr
    assert done.stdout == ""


def test_a_host_that_does_not_answer_is_5_and_the_plan_without_it_is_named(laptop):
    known = laptop.root / "known_hosts"
    known.write_text("[127.0.0.1]:1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4fyYLC5xW4ZQFVg1bYxJBWVtEn0SLBFcCBuNu6ys2v\n")  # fmt: skip
    host = ["--host", "me@127.0.0.1:1", "--known-hosts", known]
    done = laptop("plan", *host, code=5)
    assert "me@127.0.0.1:1 can't be measured" in done.stderr
    assert "--uplink MBIT" in done.stderr
    assert laptop.json("plan", *host, "--uplink", "8")["uplink"]["source"] == "given"


@pytest.mark.parametrize(
    ("safety", "said"),
    [
        ({"rented": False}, "your own machine"),
        ({"ends_itself": True}, "ends itself"),
        ({}, "can't end itself"),
        ({"console_url": "https://console.example"}, "console: https://console.example"),
    ],
)
@pytest.mark.parametrize("grade", ["A", "B", "C", "U"])
def test_the_safety_of_a_provider_is_said_as_it_is(grade, safety, said):
    plain = Features(host_key_grade=grade).data()
    lines = plan_module._safety_lines(plain | safety)
    assert f"grade {grade}" in lines[0]
    assert said in "\n".join(lines)


# -- with a machine to measure to -----------------------------------------------------------------


@pytest.fixture
def sshd():
    with serving() as server:
        yield server


def arguments(sshd, **other):
    need = {key: getattr(sshd.need, key) for key in ("host", "identity", "known_hosts")} | other
    return [word for key, value in need.items() for word in (f"--{key.replace('_', '-')}", value)]


def children(sshd):
    return psutil.Process(sshd.process.pid).children(recursive=True)


@pytest.mark.slow
@pytest.mark.sshd
@pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's server (sshd)")
def test_with_a_host_the_uplink_is_measured_and_nothing_left_there(project, sshd):
    found = project.json("plan", *arguments(sshd))
    assert_shape(found)
    way = found["uplink"]
    assert (way["source"], way["host"]) == ("measured", sshd.need.host)
    assert way["bytes_per_s"] > MB
    assert way["connections"] >= 1
    assert 0 < way["rtt_s"] < 0.5
    assert found["safety"] == Features(host_key_grade="U", rented=False).data()
    project.wait_until(lambda: not children(sshd))
    assert list(sshd.home.iterdir()) == []
    assert not (project.home / "ssh").exists()


@pytest.mark.sshd
@pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's server (sshd)")
def test_a_host_that_is_not_known_or_lets_nobody_in_is_5(project, sshd):
    empty, other = sshd.folder / "empty", sshd.folder / "host"  # a key that is not authorized
    empty.touch()
    unknown = project("plan", *arguments(sshd, known_hosts=str(empty)), code=5)
    assert "ssh-keyscan" in unknown.stderr
    refused = project("plan", *arguments(sshd, identity=str(other)), code=5)
    assert "refuses the login" in refused.stderr
    assert os.listdir(sshd.home) == []
