"""What a seed means: a provider, a task, a training, a user, and the faults of one life, as plain data.

A plan is JSON: it can be stored, replayed and made smaller. Random numbers that are needed while a
life is lived depend on the seed and the call only, so that a plan with fewer faults stays the same
life otherwise.
"""

import random

VERBS = ("look", "board", "guard", "receive", "equip", "preflight", "state", "start", "follow", "halt",
         "survey", "examine", "digest", "send")  # fmt: skip
METHODS = (
    "account_id",
    "offers",
    "create",
    "get",
    "list_tagged",
    "terminate",
    "leftovers",
    "remove",
)
REFUSALS = ("ProviderAuthError", "RateLimited", "ProviderError", "ProviderReplyError",
            "ProviderUnavailable", "NotFound")  # fmt: skip
CREATE_REFUSALS = (*REFUSALS, "NoCapacity", "QuotaExceeded", "PaymentNeeded")
PATIENCE = 14
#: providers that make an address of their own, and those that keep the run's key in the account
_ADDRESSES = ("canopywave", "openstack")
_KEYLESS = ("vast", "runpod", "local")


def draw(seed, providers, faults=None):
    """The plan of a seed; with ``faults`` False an untroubled one."""
    rng = random.Random(f"storm-{seed}")
    name = rng.choice(providers)
    job = _job(rng)
    task = _task(rng, job)
    shape = _shape(rng, name)
    _afford(rng, task, shape, job)
    begins = shape["boot_s"] + shape["ssh_s"] + 10.0
    length = job["epochs"] * job["every_s"] + job["save_s"]
    plan = {
        "seed": seed, "provider": name, "shape": shape, "task": task,
        "job": job | {"gpus": 1 if task["gpu"] else 0}, "user": _user(rng), "faults": [],
        "view": rng.random() < 0.1, "neighbour": rng.random() < 0.2,
    }  # fmt: skip
    if faults is None or faults:
        count = rng.choice((1, 1, 2, 2, 3, 3, 4, 5, 6, 8))
        for _ in range(count):
            plan["faults"] += _fault(rng, begins, length)
        if "keep" in task and rng.random() < 0.4:
            _left_alone(plan, round(begins + length + 4.0, 2))
    return plan


def _left_alone(plan, t):
    """The driver dies while the instance is kept, and the user only looks now and then."""
    plan["faults"].append({"t": t, "what": "kill"})
    plan["user"] |= {"words": ["ls"] * 5, "keys": []}
    plan["user"]["patience"][:5] = [900.0] * 5


def _job(rng):
    long = rng.random() < 0.015
    return {
        "epochs": rng.randint(1, 12),
        "every_s": round(rng.choice((300.0, 1200.0)) if long else rng.uniform(0.5, 12.0), 2),
        "code": 0 if rng.random() < 0.9 else 1,
        "save_s": round(rng.choice((0.0, 0.5, 5.0)), 2),
        "term_s": rng.choice((0.2, 1.0, 4.0)),
        "deaf": rng.random() < 0.05,
        "checkpoints": rng.choice((None, None, 2)),
        "cron": rng.random() < 0.6,
        "extra_files": rng.choice((0, 0, 0, 5)),
    }


def _task(rng, job):
    task = {"gpu": rng.random() < 0.5, "requirements": rng.random() < 0.3, "limits": {}}
    if rng.random() < 0.15:
        task["limits"]["gather_grace"] = rng.choice((60.0, 600.0, 3600.0))
    if rng.random() < 0.2:
        task["keep"] = rng.choice((5.0, 5.0, 60.0, 300.0))
    if rng.random() < 0.1:
        task["model"] = "output/model.safetensors"
    if job["checkpoints"] and rng.random() < 0.5:
        task["checkpoint_every"] = 5.0
    return task


def _shape(rng, name):
    """How the company behaves."""
    settle = rng.choice((0.0, 0.0, 1.0, 6.0, 30.0))
    boot = rng.choice((2.0, 15.0, 60.0))
    return {
        "get_lag": round(settle * rng.random(), 2),
        "list_lag": settle if name != "local" else 0.0,
        "dying_s": rng.choice((0.0, 2.0, 20.0)),
        "tail_s": rng.choice((0.0, 0.0, 3.0)),
        "boot_s": boot if name != "local" else 0.0,
        "ssh_s": rng.choice((0.0, 5.0)),
        "price": 0.0 if name == "local" and rng.random() < 0.5 else rng.choice((0.5, 2.0, 30.0)),
        "addresses": name in _ADDRESSES,
        "keys": name not in _KEYLESS,
        "tells_account": rng.random() < 0.5,
    }


def _afford(rng, task, shape, job):
    """Limits that are above what the training takes, or below."""
    length = shape["boot_s"] + 60 + job["epochs"] * job["every_s"]
    if rng.random() < 0.3:
        task["limits"]["max_duration"] = round(length * rng.choice((0.5, 3.0, 10.0)), 1)
    if rng.random() < 0.35 and shape["price"]:
        hours = length * rng.choice((0.5, 3.0, 10.0)) / 3600
        task["limits"]["max_cost"] = round(hours * shape["price"], 4)


def _user(rng):
    """How patient, with which keys in the shells of later commands, and what is said."""
    some = rng.random() < 0.35
    keys = [
        rng.choice(("right", "wrong", "none", "renewed")) if some else "right" for _ in range(3)
    ]
    words = ["resume"] * PATIENCE
    if rng.random() < 0.2:
        words[0] = rng.choice(("stop", "stop", "abort"))
    elif rng.random() < 0.3:
        words[: rng.randint(1, 5)] = ["ls"] * 5
    words = words[:PATIENCE]
    pauses = [round(rng.choice((2.0, 20.0, 60.0, 200.0, 900.0)), 1) for _ in range(PATIENCE)]
    pauses[6:] = [900.0] * (PATIENCE - 6)
    return {"keys": keys, "words": words, "patience": pauses}


def _when(rng, begins, length):
    """A moment: mostly while it trains, sometimes before or after."""
    where = rng.random()
    if where < 0.25:
        return round(rng.uniform(0, begins), 2)
    if where < 0.85:
        return round(rng.uniform(begins, begins + length), 2)
    return round(begins + length + rng.uniform(0, 40), 2)


def _fault(rng, begins, length):
    kind = rng.choices([one[1] for one in FAULTS], [one[0] for one in FAULTS])[0]
    found = kind(rng, _when(rng, begins, length))
    return found if isinstance(found, list) else [found]


def _call(rng, _t):
    method = rng.choice(METHODS)
    what = rng.choice(("before", "after", "refuse", "refuse", "slow", "stale", "garbled"))
    fault = {"at": f"provider.{method}", "what": what, "times": rng.choice((1, 1, 1, 2, 4))}
    fault["n"] = rng.choice((1, 1, 1, 2, 3, 5, 9))
    if what == "refuse":
        fault["error"] = rng.choice(CREATE_REFUSALS if method == "create" else REFUSALS)
    if what in ("slow", "stale"):
        fault["s"] = (
            rng.choice((3.0, 8.0, 30.0)) if what == "slow" else rng.choice((1.0, 5.0, 20.0))
        )
    return fault


def _talk(rng, _t):
    what = rng.choice(("cut", "after", "hang"))
    return {"at": f"open:{rng.choice(VERBS)}", "what": what, "n": rng.choice((1, 1, 1, 2, 3, 6))}


def _dial(rng, _t):
    what = rng.choice(("before", "refuse"))
    fault = {
        "at": "dial",
        "what": what,
        "n": rng.choice((1, 2, 2, 3, 4)),
        "times": rng.choice((1, 3)),
    }
    if what == "refuse":
        fault["error"] = rng.choice(("RemoteAuthError", "HostKeyMismatch"))
    return fault


def _kill(rng, t):
    """Death of the driver, at a moment, at a commit, at a talk's beginning or end."""
    how = rng.random()
    if how < 0.4:
        return {"t": t, "what": "kill"}
    if how < 0.7:
        return {"at": "commit", "n": rng.randint(1, 90), "what": "kill"}
    if how < 0.85:
        return {"at": f"open:{rng.choice(VERBS)}", "n": rng.choice((1, 1, 2)), "what": "kill"}
    if how < 0.93:
        verb = rng.choice(("start", "start", "halt", "receive", "digest"))
        return {"at": f"open:{verb}", "n": 1, "what": "kill_after"}
    method = rng.choice(METHODS)
    return {"at": f"provider.{method}", "n": rng.choice((1, 1, 2)), "what": "kill"}


def _for(what, *seconds):
    def make(rng, t):
        return {"t": t, "what": what, "s": rng.choice(seconds)}

    return make


def _once(what):
    def make(_rng, t):
        return {"t": t, "what": what}

    return make


def _says(rng, t):
    name = rng.choice(("stop", "stop", "abort"))
    fault = {
        "what": "command",
        "name": name,
        "keys": rng.choice(("right",) * 5 + ("wrong", "none")),
    }
    if rng.random() < 0.3:
        return fault | {"at": "commit", "n": rng.randint(3, 90)}
    return fault | {"t": t}


def _hasty(rng, _t):
    """The user, or death, right behind the create."""
    what = rng.choice(({"what": "command", "name": "abort", "keys": "right"}, {"what": "kill"}))
    lost = {"at": "provider.create", "what": "after", "n": 1}
    behind = what | {
        "at": f"provider.{rng.choice(('get', 'list_tagged'))}",
        "n": rng.choice((1, 2, 3)),
    }
    return [lost, behind] if rng.random() < 0.5 else behind


def _closed(rng, t):
    """The laptop is closed, and then something happens over there."""
    what = rng.choice((
        {"what": "reboot"}, {"what": "guard_dies"}, {"what": "box_full", "s": 2000.0},
        {"what": "job_stuck"}, {"what": "box_no_procs", "s": 60.0},
    ))  # fmt: skip
    return [{"t": t, "what": "kill"}, what | {"t": round(t + rng.uniform(-2.0, 2.0), 2)}]


def _stop_behind_start(rng, _t):
    """The driver dies around the start; the user has changed his mind."""
    how = rng.choice(("kill", "kill_after", "after"))
    died = {"at": "open:start", "n": 1, "what": how}
    return [died, {"at": "open:start", "n": 1, "what": "command", "name": "stop", "keys": "right"}]


def _hidden_leftovers(rng, _t):
    """What lies beside the instance can't be listed when it matters."""
    return {"at": "provider.leftovers", "n": rng.choice((1, 2, 3)), "times": rng.choice((2, 4, 12)),
            "what": "refuse", "error": rng.choice(("ProviderError", "ProviderAuthError", "NotFound"))}  # fmt: skip


def _other_version(rng, t):
    """Another towline stored something, the driver is gone, and the user may have had enough."""
    found = [{"t": t, "what": "other_version", "s": rng.choice((100.0, 2000.0))}]
    if rng.random() < 0.6:
        end = {"what": "command", "name": rng.choice(("abort", "stop")), "keys": "right"}
        found += [{"t": t, "what": "kill"}, end | {"t": round(t + 5.0, 2)}]
    return found


def _looks(rng, t):
    return {"t": t, "what": "command", "name": rng.choice(("ls", "gc", "resume")),
            "keys": rng.choice(("right", "right", "wrong", "none"))}  # fmt: skip


def _refuses(rng, t):
    return {
        "t": t,
        "what": "api_refuses",
        "error": rng.choice(REFUSALS),
        "s": rng.choice((3.0, 20.0, 90.0)),
    }


def _cut_and_refused(rng, t):
    """One reset and a refusal right behind it."""
    refused = _refuses(rng, max(0.0, t - 0.5))
    return [refused, {"t": t, "what": "line_cut"}]


FAULTS = (
    (6, _call), (3, _talk), (2, _dial), (6, _kill), (1, _once("detach")),
    (2, _for("sleep", 30.0, 600.0, 86400.0)), (2, _for("clock", -3600.0, 3600.0, 120.0)),
    (3, _for("outage", 5.0, 70.0, 400.0)), (3, _once("line_cut")),
    (2, _for("api_down", 10.0, 100.0, 400.0)), (2, _refuses), (2, _cut_and_refused),
    (1, _once("lose")), (2, _once("reboot")), (2, _once("guard_dies")),
    (2, _for("box_full", 5.0, 60.0, 2000.0)), (2, _for("box_no_procs", 5.0, 60.0)),
    (1, _for("box_clock", -3600.0, 3600.0)), (1, _once("job_stuck")),
    (3, _for("locked", 3.0, 25.0, 60.0)), (2, _for("io_error", 1.0, 10.0)),
    (3, _for("home_full", 3.0, 30.0)), (2, _for("results_away", 10.0, 100.0)),
    (1, _for("terminal", 60.0, 4000.0)), (2, _for("identity", 5.0, 60.0)),
    (2, _other_version), (5, _says), (3, _looks),
    (3, _hasty), (5, _closed), (2, _stop_behind_start), (2, _hidden_leftovers),
)  # fmt: skip
