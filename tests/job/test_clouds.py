"""Promise 2 and the main job, through every cloud's driver, by the command line.

The APIs are stand-ins (tests/clouds); the instances are real processes behind real SSH servers.
"""

import contextlib
import json

import clouds
import pytest

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
