"""From a seed to a life: what is trained, where, and what goes wrong at which moment."""

import random

from tests.onboard.machine import old_python
from tests.storm_real import faults_around  # noqa: F401 - its faults are drawn too
from tests.storm_real.faults import FAULTS
from tests.storm_real.world import FAKETIME

#: commands that the user types beside the driver -> how often
TYPED = {
    ("ls",): 3, ("ls", "--json"): 1, ("status",): 1, ("logs",): 1, ("events",): 1, ("gc",): 2,
    ("gc", "--dry-run"): 1, ("resume",): 3, ("resume", "--all"): 2, ("attach",): 1, ("stop",): 3,
    ("abort", "-y"): 1.5, ("wait",): 1,
}  # fmt: skip
_STEPS = ("acquire", "connect", "deliver", "equip", "execute", "gather", "release")
_MOST_EPOCHS = 40


def draw(seed):
    """A scenario: plain data, the same for a seed on every machine with the same tools."""
    rng = random.Random(seed)
    provider = rng.choice(("ssh", "ssh", "local"))
    plan = _plan(rng)
    scenario = {
        "seed": seed,
        "provider": provider,
        "plan": plan,
        "neighbour": _plan(rng) if rng.random() < 0.1 else None,
        "detach": rng.random() < 0.12,
        "terminal": rng.random() < 0.3,
        "clocks": sorted(set(rng.choices(("here", "there"), k=2))) if rng.random() < 0.2 else [],
        "limits": {},
        "strikes": [],
    }
    can = {"here": FAKETIME is not None, "there": FAKETIME is not None and old_python() is not None}
    # at `local` the driver sleeps as libfaketime does not let it: see `world.FAKETIME`
    scenario["clocks"] = [one for one in scenario["clocks"] if can[one] and provider == "ssh"]
    if rng.random() < 0.06:
        scenario["limits"] = {"max_duration": "2s"}
        plan["every_s"] = 0.3
    for _ in range(rng.randint(1, 4)):
        scenario["strikes"].append(_strike(rng, scenario))
    return scenario


def _plan(rng):
    epochs = rng.randint(8, _MOST_EPOCHS)
    return {
        "epochs": epochs,
        "every_s": round(rng.uniform(1, 5) / epochs, 3),
        "size": rng.choice((1_000, 100_000, 3_000_000)),
        "seed": rng.randrange(1_000_000),
        "code": 0 if rng.random() < 0.9 else 3,
    }


def _strike(rng, scenario):
    """One fault, or one command typed beside: what, when, for how long."""
    moment = {"step": rng.choice(_STEPS), "after_s": round(rng.uniform(0, 0.25), 3)}
    if rng.random() < 0.65:
        moment = {"epoch": rng.randint(1, scenario["plan"]["epochs"]), "after_s": 0.0}
    if rng.random() < 0.3:
        argv = rng.choices(list(TYPED), TYPED.values())[0]
        return {"typed": list(argv), **moment, "holds_s": 0}
    names = [name for name in FAULTS if _possible(name, scenario)]
    name = rng.choices(names, [FAULTS[name].weight for name in names])[0]
    return {"fault": name, **moment, "holds_s": round(rng.uniform(*FAULTS[name].holds_s), 2)}


def _possible(name, scenario):
    if name.startswith("clock_"):
        return "here" in scenario["clocks"]
    if name.startswith("instance_clock_"):
        return "there" in scenario["clocks"]
    if name == "terminal_frozen":
        return scenario["terminal"]
    return scenario["provider"] in FAULTS[name].providers


def strike_text(strike):
    """A strike in words: `driver_killed at epoch 3 for 0.5 s`."""
    what = strike.get("fault") or f"`towline {' '.join(strike['typed'])}`"
    when = (
        f"epoch {strike['epoch']}"
        if "epoch" in strike
        else f"{strike['step']} + {strike['after_s']} s"
    )
    return f"{what} at {when}" + (f" for {strike['holds_s']} s" if strike["holds_s"] else "")
