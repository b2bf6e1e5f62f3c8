"""What must hold in every life: judged by the world, not by the journal.

Each invariant is a name; `World.breaks` keeps the first text of each.
"""

import contextlib
import hashlib
import json
import sqlite3

from towline.core.run import Wish
from towline.errors import ReleaseUnconfirmed, SpecError

ONCE = "trained exactly once"
HEALTHY = "a healthy training is not ended"
LOG = "the log is whole"
METRICS = "metrics are neither lost nor doubled"
MODEL = "the model is home, or the instance is there"
BILLS = "nothing bills that the final state calls ended"
OTHERS = "nothing of another laptop is touched"
CAP = "spent no more than the cap"
EXIT = "no exit code lies"
LIVELOCK = "no livelock"
ENDS = "it ends"
BUG = "no bug of ours"
_SLACK_S = 10.0
_ASKED_S = 5.0  # the instance's age counts from before it was asked for
_TRAINED = 0.8  # of a cap: the rest may be kept back for the way home


def of_run(life):
    """Every instance that the life's laptop rented."""
    return [
        one for account in life.world.accounts.values() for one in account.rented.values()
        if one.owner == "A"
    ]  # fmt: skip


def billing(life):
    """Instances and addresses of the life that still bill."""
    names = [one.id for one in of_run(life) if one.bills() and one.asked_to_end is None]
    for account in life.world.accounts.values():
        names += [
            thing.id
            for thing in account.things.values()
            if thing.kind != "key" and _ours(life, thing.tag)
        ]
    return names


def _ours(life, tag):
    return tag == f"towline-{life.known_id()}"


def model_home(life):
    """SHA-256 of the files in the results that are a model's."""
    found = set()
    for path in life.results.rglob("*"):
        if path.is_file() and path.suffix == ".safetensors":
            found.add(hashlib.sha256(path.read_bytes()).hexdigest())
    away = life.folder / "results.away"
    if away.exists():
        for path in away.rglob("*.safetensors"):
            found.add(hashlib.sha256(path.read_bytes()).hexdigest())
    return found


def model_there(box):
    """SHA-256 of the model that the training left on its instance, None without one."""
    found = box.files.get("output/model.safetensors")
    return None if found is None else hashlib.sha256(found[0]).hexdigest()


def limit_reached(life, box):
    """Whether one of the task's limits is truly used up; of a cap, all but what is kept for the way."""
    limits = life.plan["task"]["limits"]
    began = box.rented.created if box.rented is not None else 0.0
    seconds = life.world.now - began + _ASKED_S
    price = box.rented.price if box.rented is not None else 0.0
    if limits.get("max_duration") is not None and seconds >= limits["max_duration"]:
        return True
    return (
        limits.get("max_cost") is not None
        and seconds / 3600 * price >= limits["max_cost"] * _TRAINED
    )


def cap_is_spent(life, box):
    """Whether nearly all of `max_cost` is spent: then nothing more may be paid for, a model included."""
    cap = life.plan["task"]["limits"].get("max_cost")
    return (
        cap is not None and box.rented is not None and box.rented.cost(life.world.now) >= 0.85 * cap
    )


def job_ended(life, box, why):
    """A signal to a living training, or its machine taken from under it by us."""
    job = box.job
    if job is None or not job.alive or job.stuck:
        return
    if life.wished is not None or limit_reached(life, box):
        return
    life.world.breaks(HEALTHY, f"{why} at epoch {job.epoch} of {job.script['epochs']}")


def instance_ended(life, box, why):
    """An accepted terminate, or the removal of the run's folder."""
    if box is None or not box.powered:
        return
    job = box.job
    aborted = life.wished is not None and life.wished[0] is Wish.ABORT
    if job is None or aborted or cap_is_spent(life, box):
        return
    if job.alive and not job.stuck:
        if life.wished is None and not limit_reached(life, box):
            life.world.breaks(HEALTHY, f"{why} at epoch {job.epoch} of {job.script['epochs']}")
        else:
            life.world.breaks(MODEL, f"{why}: what the training has is discarded")
        return
    there = model_there(box)
    if there is not None and there not in model_home(life):
        life.world.breaks(MODEL, f"{why}: the model is not home")


def thing_removed(life, thing):
    if not _ours(life, thing.tag):
        life.world.breaks(OTHERS, f"{thing.id} of {thing.tag} was removed")


def command_over(life, process, name, code):
    """After each command: does its exit code tell the truth?"""
    row = life.row("SELECT state FROM runs")
    state = row[0] if row else None
    bills = billing(life)
    life.commands.append((name, code, state))
    for who, error in life.bugs:
        life.world.breaks(BUG, f"{who}: {type(error).__name__}: {error}")
    if name == "ls":
        _judge_kept(life, process)
    if code is None or state is None:
        return
    if name == "abort" and code == SpecError.exit_code and state == "active":
        life.world.breaks(ENDS, "a run can't be aborted: its task is not understood")
    if state != "active" and bills:
        life.world.breaks(BILLS, f"{name} says {code}, the run is {state}, and {bills} bill")
    if code == 0 and name in ("train", "resume", "stop", "abort", "drive"):
        if state == "active":
            if name != "drive":
                life.world.breaks(EXIT, f"{name} says 0 and the run is active")
        elif name in ("train", "resume", "drive") and life.wished is None and not _has_model(life):
            life.world.breaks(EXIT, f"{process.name} says 0 and no model is home")


def _judge_kept(life, process):
    """What was kept for the user is ended by any later command, once its time is long over."""
    keep, now = life.plan["task"].get("keep"), life.world.now
    boxes = [
        box for box in life.boxes.values() if box.job is not None and box.job.ended is not None
    ]
    if keep is None or process.keys != "right" or not boxes or not billing(life):
        return
    if now < boxes[-1].job.ended + keep + 120 or not model_home(life):
        return
    life.kept_looks.append(now)
    if now - life.kept_looks[0] >= 400:
        life.world.breaks(BILLS, f"kept for {keep:g} s, and `ls` has left it alone for long")


def _has_model(life):
    home = model_home(life)
    return any(model_there_once(box) in home for box in life.boxes.values())


def model_there_once(box):
    """The model as the training saved it, also when its machine is gone."""
    return getattr(box, "model_saved", None) or model_there(box)


def judge(life):
    """After a life."""
    world = life.world
    row = life.row("SELECT state, wish, error_json FROM runs")
    state = row[0] if row else None
    begun = sum(box.begun for box in life.boxes.values())
    if begun > 1:
        world.breaks(ONCE, f"the command began {begun} times")
    if state == "active" and not _is_held(life):
        world.breaks(ENDS, f"the run is active after {len(life.commands)} commands: {_where(life)}")
    limits = life.plan["task"]["limits"]
    if life.gave_up and ("max_duration" in limits or "max_cost" in limits):
        world.breaks(ENDS, "a limit was set, and the user had to end it by hand")
    if state == "succeeded" and begun != 1:
        world.breaks(ONCE, f"succeeded, and the command began {begun} times")
    _judge_log(life, state)
    _judge_money(life, state)
    _judge_loss(life, state)
    for account in world.accounts.values():
        for one in account.rented.values():
            if one.owner == "B" and (one.ended is not None or one.asked_to_end is not None):
                world.breaks(OTHERS, f"{one.id} of another laptop was ended by {one.ended_by}")


def _is_held(life):
    """A process that no signal ends, on the user's own machine: nobody can help, and it is said."""
    stuck = any(box.rented is None and box.job and box.job.stuck for box in life.boxes.values())
    return stuck and life.commands[-1][1] == ReleaseUnconfirmed.exit_code


def _where(life):
    row = life.row("SELECT step, outcome FROM attempts ORDER BY rowid DESC LIMIT 1")
    return f"last attempt {row}"


def _judge_log(life, state):
    boxes = [box for box in life.boxes.values() if box.begun]
    if not boxes:
        return
    box = boxes[-1]
    path = life.home / "runs" / str(life.known_id()) / "training.log"
    here = path.read_bytes() if path.exists() else b""
    there = bytes(box.log)
    if not there.startswith(here):
        life.world.breaks(LOG, f"{len(here)} bytes here are no beginning of {len(there)} there")
    elif state == "succeeded" and here != there:
        life.world.breaks(LOG, f"{len(here)} bytes came home of {len(there)}")
    db = life.home / "towline.db"
    with contextlib.closing(sqlite3.connect(db)) as journal:
        rows = journal.execute("SELECT data_json FROM events WHERE kind = 'progress' ORDER BY seq")
        epochs = [json.loads(one[0])["epoch"] for one in rows]
    if epochs != list(range(1, len(epochs) + 1)):
        life.world.breaks(METRICS, f"epochs in the journal: {epochs[:40]}")
    elif state == "succeeded" and len(epochs) != there.count(b"epoch "):
        life.world.breaks(METRICS, f"{len(epochs)} of {there.count(b'epoch ')} reports are home")


def _judge_money(life, state):
    if state not in (None, "active") and (bills := billing(life)):
        life.world.breaks(BILLS, f"the run is {state}, and {bills} bill")
    cap = life.plan["task"]["limits"].get("max_cost")
    rented = of_run(life)
    if cap is None or not rented:
        return
    spent = sum(one.cost(life.world.now) for one in rented)
    features = rented[-1].account.features
    slack = max(one.price for one in rented) * _SLACK_S / 3600
    unguarded = any(_guard_was_lost(one, cap) for one in rented)
    ends_itself = features.server_ttl or (features.end_self_argv and not unguarded)
    if ends_itself and spent > cap + slack:
        life.world.breaks(CAP, f"${spent:.2f} spent, the cap is ${cap:.2f}")


def _guard_was_lost(one, cap):
    """Whether the guard came too late for the cap, or was killed and nobody came to arm it again."""
    box = one.box
    if box.armed_at is None:
        return True
    armed = [at for at in (box.armed_at, box.rearmed_at) if at is not None]
    if any(one.price * (at - one.created) / 3600 > 0.8 * cap for at in armed):
        return True
    return box.guard_lost_at is not None and box.boarded_at <= box.guard_lost_at


def _judge_loss(life, state):
    """A training that ended well: its model is home, unless somebody wanted it otherwise."""
    for box in life.boxes.values():
        job = box.job
        if job is None or job.ended_by is not None or job.alive or job.script["code"] != 0:
            continue
        lost = box.rented is not None and box.rented.ended_by in (
            "taken away by the company", "the instance itself", "its time to live at the company"
        )  # fmt: skip
        if cap_is_spent(life, box):
            continue
        if state not in (None, "active") and life.wished is None and not lost:
            if model_there_once(box) not in model_home(life):
                life.world.breaks(MODEL, f"the run is {state} and the model is nowhere")
            elif state != "succeeded" and not limit_reached(life, box):
                life.world.breaks(EXIT, f"trained well, the model is home, and the run is {state}")
