"""Promise 2 and the main job, through every cloud's driver, by the command line.

The APIs are stand-ins (tests/clouds); the instances are real processes behind real SSH servers.
"""

import contextlib
import json
import os
import signal
import sqlite3
import time

import clouds
import pytest
from clouds import base, vultr
from warm import Forker

TRAIN = "tr a b < $TOWLINE_DATASET/a.txt > $TOWLINE_OUTPUT/model.pt"


@contextlib.contextmanager
def at(job, *providers, **more):
    """Accounts at these clouds, and a task that wants a GPU."""
    with contextlib.ExitStack() as stack:
        found = {name: stack.enter_context(clouds.fake(name, **more)) for name in providers}
        (job.root / "config.yaml").write_text(clouds.config(found))
        for name in providers:
            job.environment |= clouds.FAKES[name][1]
        job.task(TRAIN, resources={"gpu": "H100:1"})
        yield found if len(found) > 1 else next(iter(found.values()))


def clean(cloud):
    """The cloud's own ledger: what was made was ended, and nothing of anybody else's."""
    return (cloud.alive(), cloud.left_over(), cloud.doubles(), cloud.violations) == ([], [], [], [])


@pytest.mark.parametrize("provider", clouds.FAKES)
def test_the_main_job(job, provider):
    with at(job, provider) as cloud:
        cloud.place_foreign("towline-not-ours")
        done = job.run("train", "-y", check=0)
        assert (job.project / "runs" / "job" / "model.pt").read_text() == "b\n"
        assert len(cloud.ours()) == 1
        assert clean(cloud), (cloud.audit, done.stdout)
        receipt = job.receipt()
        assert receipt["instance"]["provider"] == provider
        assert receipt["instance"]["gpu"].startswith("NVIDIA H100")
        assert receipt["release"]["gone"] is True
        assert receipt["cost_usd"] > 0
        for secret in clouds.FAKES[provider][1].values():
            assert secret not in done.stdout + done.stderr
        swept = json.loads(job.run("gc", "--json", check=0).stdout)
        assert not any(swept.values())


def test_the_main_job_through_a_driver_of_another_package(job):
    with vultr.Vultr() as cloud:
        (job.root / "config.yaml").write_text(clouds.config({"vultr": cloud}))
        site = vultr.install(job.root / "site")
        path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
        job.environment |= {"PYTHONPATH": path, "VULTR_API_KEY": vultr.KEY}
        job.task(TRAIN, resources={"gpu": "H100:1"})
        done = job.run("train", "-y", check=0)
        assert (job.project / "runs" / "job" / "model.pt").read_text() == "b\n"
        assert job.receipt()["instance"]["provider"] == "vultr"
        assert (len(cloud.ours()), clean(cloud)) == (1, True), (cloud.audit, done.stdout)
        assert "ok   provider vultr" in job.run("doctor", "vultr", check=0).stdout


def offer_type(receipt):
    return receipt["instance"]["provider"], receipt["instance"]["type"]


def test_the_cheapest_of_all_accounts_is_rented(job):
    with at(job, "lambda", "shadeform") as found:
        offers = json.loads(job.run("plan", "--json", check=0).stdout)["offers"]
        assert {offer["provider"] for offer in offers} == set(found)
        done = job.run("train", "-y", check=0)
        first = offers[0]
        assert offer_type(job.receipt()) == (first["provider"], first["type"])
        assert first["price_usd_per_hour"] == min(one["price_usd_per_hour"] for one in offers)
        assert f"rented {first['provider']} {first['type']}" in done.stdout
        assert all(clean(cloud) for cloud in found.values())


@pytest.mark.parametrize("kind", ["403", "402", "429", "500"])
def test_an_account_that_can_not_rent_does_not_stop_the_others(job, kind):
    """Refused, unpaid, asked too often, without a clear answer: nothing is rented twice."""
    with at(job, "lambda", "shadeform") as found:
        (first, second) = found if cheaper(job, found) == "lambda" else reversed(found)
        create = found[first].creates[0]
        found[first].fail(create, kind, times=1 if kind in {"429", "500"} else 2)
        job.run("train", "-y", check=0)
        expected = first if kind in {"429", "500"} else second
        assert job.receipt()["instance"]["provider"] == expected
        assert len(found["lambda"].ours()) + len(found["shadeform"].ours()) == 1
        assert all(clean(cloud) for cloud in found.values())


def test_an_account_that_is_set_up_wrongly_does_not_stop_the_others(job):
    with at(job, "lambda", "shadeform") as found:
        config = json.loads((job.root / "config.yaml").read_text())
        config["providers"]["shadeform"]["regoin"] = "us"
        (job.root / "config.yaml").write_text(json.dumps(config))
        plan = json.loads(job.run("plan", "--json", check=0).stdout)
        assert {offer["provider"] for offer in plan["offers"]} == {"lambda"}
        done = job.run("train", "-y", check=0)
        assert "shadeform is left out: " in done.stdout
        assert "regoin" in done.stdout
        config["providers"]["lambda"]["regoin"] = "us"
        (job.root / "config.yaml").write_text(json.dumps(config))
        done = job.run("train", "-y", check=2)
        assert "providers.lambda" in done.stderr
        assert all(clean(cloud) for cloud in found.values())


@pytest.mark.parametrize(
    ("told", "said"), [("memory.total) value=9984", "10 GB"), ("mig.*) value=Enabled", "divided")]
)
def test_a_slice_of_a_gpu_is_ended_before_anything_is_uploaded(job, monkeypatch, told, said):
    """Asked for H100:1, rented as one, and the machine shows a part of it."""
    monkeypatch.setattr(base, "_SMI", base._SMI.replace("name) value", f"{told};; name) value"))
    with at(job, "lambda") as cloud:
        done = job.run("train", "-y", check=4)
        assert said in done.stderr
        assert "the instance has: 1 x NVIDIA" in done.stderr
        calls = [one["step"] for one in job.receipt()["steps"]]
        assert "deliver" not in calls
        assert job.receipt()["transfers"] == []
        assert len(cloud.ours()) == 1
        assert clean(cloud), cloud.audit


def test_a_row_without_a_price_is_named_and_another_accounts_odd_answer_costs_nobody_an_offer(
    job, monkeypatch
):
    with at(job, "lambda", "shadeform") as found:
        usual, broken = found["lambda"].instance_types, found["shadeform"]

        def priced(request):
            answer = usual(request)
            one = answer["data"]["gpu_1x_a10"]
            one["instance_type"] = {**one["instance_type"], "price_cents_per_hour": 0}
            return answer

        monkeypatch.setattr(found["lambda"], "instance_types", priced)
        monkeypatch.setattr(broken, "instance_types", lambda _request: {"instance_types": "none"})
        plan = json.loads(job.run("plan", "--json", check=0).stdout)
        assert {one["provider"] for one in plan["offers"]} == {"lambda"}
        assert [one["provider"] for one in plan["unreachable"]] == ["shadeform"]
        told = json.loads(job.run("offers", "--json", check=0).stdout)
        assert all(one["price_usd_per_hour"] > 0 for one in told["offers"])
        assert [(one["provider"], one["reason"]) for one in told["left_out"]] == [
            ("lambda", "no price")
        ]
        assert "left out: no price" in job.run("offers", check=0).stdout


def test_the_ledger_counts_the_disk(job):
    with at(job, "verda"):
        first = json.loads(job.run("plan", "--json", check=0).stdout)["offers"][0]
        job.run("train", "-y", check=0)
        whole = first["price_usd_per_hour"] + first["storage_usd_per_hour"]
        assert first["storage_usd_per_hour"] > 0
        assert job.receipt()["instance"]["price_usd_per_hour"] == pytest.approx(whole)


def cheaper(job, found):
    offers = json.loads(job.run("plan", "--json", check=0).stdout)["offers"]
    return offers[0]["provider"]


def test_offers_without_capacity_are_passed_in_order(job):
    with at(job, "lambda") as cloud:
        offers = json.loads(job.run("plan", "--json", check=0).stdout)["offers"]
        cloud.sold_out_at_launch = {(offers[0]["type"], offers[0]["region"])}
        done = job.run("train", "-y", check=0)
        assert "trying the next offer" in done.stdout
        assert len(cloud.ours()) == 1
        assert cloud.ours()[0].data["region"] == offers[1]["region"]
        assert clean(cloud)


def test_no_host_for_an_openstack_server_is_passed_in_order(job):
    """The create is accepted, the server fails a moment later: it is ended, the next one tried."""
    with at(job, "openstack") as cloud:
        cloud.flavors["g2.h100"] = ("H100", 1, 100, {})  # cheaper, so tried first
        cloud.no_host.add("g2.h100")
        done = job.run("train", "-y", check=0)
        assert "No valid host was found" in done.stdout
        assert [machine.type for machine in cloud.ours()] == ["g2.h100", "g1.h100.1"]
        assert clean(cloud)


def test_nothing_is_tried_past_an_instance_that_can_not_be_ended(job):
    """It never gets an address, and the API refuses to end it: exit 6, with the console's link."""
    with at(job, "lambda", boot_s=60) as cloud:
        job.task(TRAIN, resources={"gpu": "H100:1"}, limits={"boot_timeout": "1s"})
        cloud.fail("terminate", "403", times=6)  # acquire tries it three times, and so does release
        done = job.run("train", "-y", check=6)
        assert "https://cloud.lambda.ai/instances" in done.stderr
        assert len(cloud.ours()) == len(cloud.alive()) == 1
        job.run("gc", check=0)
        assert job.status()["state"] == "failed"
        assert clean(cloud)


def test_a_release_without_proof_is_tried_again_by_a_later_command(job):
    with at(job, "lambda") as cloud:
        cloud.fail("terminate", "403", times=3)
        job.run("train", "-y", check=6)
        assert len(cloud.alive()) == 1
        with sqlite3.connect(job.home / "towline.db") as db:  # half a minute later
            db.execute("UPDATE attempts SET started_at = started_at - 40 WHERE step = 'release'")
        db.close()
        said = job.run("ls", "--json", check=0)
        assert [run["name"] for run in json.loads(said.stdout)] == ["job"]  # and nothing else
        assert "tried again in the background" in said.stderr
        until = time.monotonic() + 20
        while json.loads(job.run("status", "--json").stdout)["state"] == "active":
            assert time.monotonic() < until
            time.sleep(0.1)
        assert clean(cloud)
        assert (job.project / "runs" / "job" / "model.pt").exists()


def test_a_price_above_the_ceiling_is_not_rented(job):
    with at(job, "lambda") as cloud:
        job.task(TRAIN, resources={"gpu": "H100:1", "max_price_per_hour": 2})
        done = job.run("train", "-y", check=4)
        assert "no offer that fits" in done.stderr
        assert cloud.ours() == []


def test_another_gpu_than_offered_is_noticed_before_the_upload(job):
    with at(job, "lambda") as cloud:
        cloud.gpu_inside = "A10"
        done = job.run("train", "-y", check=4)
        assert "the offer said 1 x H100 80 GB; the instance has: 1 x NVIDIA A10" in done.stderr
        assert "Uploading" not in done.stdout
        assert clean(cloud)


def test_a_provider_without_a_key_says_how_to_give_one(job):
    with at(job, "lambda") as cloud:
        job.environment.pop("LAMBDA_API_KEY")
        job.task(TRAIN, resources={"gpu": "H100:1", "provider": "lambda"})
        done = job.run("train", "-y", check=2)
        assert "towline login lambda" in done.stderr
        assert cloud.audit == []


def test_a_gpu_without_any_account_is_an_error_and_no_run_on_this_machine(job):
    job.task(TRAIN, resources={"gpu": "H100:1"})
    done = job.run("train", "-y", check=2)
    assert "no account is set up" in done.stderr
    assert "towline login" in done.stderr


class Laptop:
    """One TOWLINE_HOME, with a warm process that runs its commands."""

    def __init__(self, job, name, forker):
        self.job, self.forker = job, forker
        self.project = job.root / name
        self.project.mkdir()
        task = {"name": "job", "command": "true", "resources": {"gpu": "H100:1"}}
        (self.project / "towline.yaml").write_text(json.dumps(task))

    def run(self, *argv, **more):
        names = ("LAMBDA_API_KEY", "TOWLINE_CONFIG")
        env = {name: self.job.environment[name] for name in names}
        env["TOWLINE_HOME"] = str(self.project / "home")
        return self.forker.run_all({
            "argv": argv, "cwd": str(self.project), "env": env, "money_only": True,
            "out": str(self.project / "out"), **more,
        })  # fmt: skip

    def said(self):
        return (self.project / "out").read_text()


def test_twenty_runs_at_once_on_one_account(job):
    with at(job, "lambda", boxes=False, boot_s=0.5) as cloud, Forker() as forker:
        laptop = Laptop(job, "one", forker)
        statuses = laptop.run("train", "-y", times=20)
        assert set(statuses) == {3}, laptop.said()  # no training ran, so there is no model
        assert len(cloud.ours()) == 20
        assert len({machine.name for machine in cloud.ours()}) == 20
        assert clean(cloud)
        assert len(list((laptop.project / "runs").iterdir())) == 20


def test_two_laptops_on_one_account_leave_each_other_alone(job):
    with at(job, "lambda", boxes=False, pid_file=job.root / "pid") as cloud, Forker() as forker:
        one, two = Laptop(job, "one", forker), Laptop(job, "two", forker)
        cloud.fail("get_instance", "kill")  # the first laptop dies right after it has rented
        assert one.run("train", "-y", pid_file=str(job.root / "pid")) == [-signal.SIGKILL]
        (rented,) = cloud.alive()
        assert two.run("gc") == [0]
        assert "not of this TOWLINE_HOME, left alone" in two.said()
        assert two.run("train", "-y") == [3]
        assert two.run("resume", "--all") == [0]
        assert [machine.id for machine in cloud.alive()] == [rented.id]
        assert one.run("resume", "--all") == [3]
        assert clean(cloud)
