"""One life: a scenario lived on real processes, then judged.

    python -m tests.storm_real.life FOLDER SEED [strike numbers to keep, by commas]

As a child of process 1 of fresh namespaces, in an empty folder. Prints one JSON object: {"seed", "scenario", "wrong", "story",
"seconds", "struck"}.
"""

import contextlib
import json
import signal
import sys
import time
from pathlib import Path

from tests.storm_real.faults import FAULTS
from tests.storm_real.oracle import Facts, Seen, judge, judge_command
from tests.storm_real.scenario import draw, strike_text
from tests.storm_real.world import World

TICK_S = 0.02
LIMIT_S = 60.0
_STORM_S = 40.0  # then what has not come to pass is left out, and all is mended
_PATIENCE = 8  # times that the user resumes
_TIDY_S = 3.0


class Hangs(Exception):
    """The life took too long."""


class Life:
    """The storm over one world, and the patience after it."""

    def __init__(self, world):
        self.world = world
        self.person = world.person
        self.waiting = list(world.scenario["strikes"])
        self.active = []  # (mended at, exit stack, strike)
        self.struck = []
        self.seen_step = {}
        self.may_end = []
        self.wishes = []
        self.wrong = []
        self.states = {}  # of each person's runs, as `towline ls` says them last

    # -- time -------------------------------------------------------------------------------------

    def turn(self):
        """A moment passes: what ended is looked at, what is due strikes, what is over is mended."""
        time.sleep(TICK_S)
        now = time.monotonic()
        if now - self.world.began > LIMIT_S:
            raise Hangs
        if not self.world.frozen:
            for command in (one for person in self.world.people for one in person.commands):
                command.read_terminal()
        self._look_at_the_ended()
        for entry in [one for one in self.active if one[0] <= now]:
            self._mend(entry)
        for strike in [one for one in self.waiting if self._is_due(one, now)]:
            self.waiting.remove(strike)
            self._strike(strike, now)

    def until(self, fact, within_s):
        deadline = time.monotonic() + within_s
        while not fact():
            if time.monotonic() > deadline:
                return False
            self.turn()
        return True

    def _is_due(self, strike, now):
        if "epoch" in strike:
            return self.person.epochs() >= strike["epoch"]
        step = self.person.step()
        if step >= strike["step"]:  # their alphabetical order is run order
            self.seen_step.setdefault(strike["step"], now)
        return now >= self.seen_step.get(strike["step"], now + 1) + strike["after_s"]

    def _strike(self, strike, now):
        self.world.say(strike_text(strike))
        self.struck.append(strike.get("fault") or strike["typed"][0])
        if "typed" in strike:
            self.wishes += [(now, strike["typed"][0])] * (strike["typed"][0] in ("stop", "abort"))
            self.person.type(*strike["typed"])
            return
        if any(entry[2]["fault"] == strike["fault"] for entry in self.active):
            return  # it is so already
        kind = FAULTS[strike["fault"]]
        if kind.may_end:
            self.may_end.append((now, kind.may_end))
        stack = contextlib.ExitStack()
        stack.enter_context(kind.strike(self.world))
        self.active.append((time.monotonic() + strike["holds_s"], stack, strike))

    def _mend(self, entry):
        self.active.remove(entry)
        entry[1].close()
        if entry[2]["holds_s"]:
            self.world.say(f"mended: {entry[2]['fault']}")

    def _look_at_the_ended(self):
        for person in self.world.people:
            for command in person.commands:
                if command.code is None and (code := command.process.poll()) is not None:
                    self._ended(person, command, code)

    def _ended(self, person, command, code):
        command.close()
        command.code = code
        who = "" if person is self.person else "neighbour: "
        self.world.say(f"{who}`towline {' '.join(command.argv)}` -> {code}")
        facts = self.facts(person)
        seen = Seen(
            argv=command.argv, code=code, text=command.text(), killed=command.killed,
            instances=len(self.world.instances(person)), model=person.model_at_home(),
        )  # fmt: skip
        self.wrong += judge_command(facts, seen)

    # -- the life ---------------------------------------------------------------------------------

    def live(self):
        scenario = self.world.scenario
        argv = ["train", "-y"] + ["--detach"] * scenario["detach"]
        options = {"terminal": True} if scenario["terminal"] else {}
        for person in self.world.people:
            person.type(*argv, **options)
        self._storm(options)
        for entry in list(self.active):
            self._mend(entry)
        for strike in self.waiting:
            self.world.say(f"never came: {strike_text(strike)}")
        self.waiting = []
        for person in self.world.people:
            self._patience(person)

    def _storm(self, options):
        """Until all has struck and is mended, or nothing more can come."""
        again = 3
        while (self.waiting or self.active) and time.monotonic() - self.world.began < _STORM_S:
            self.turn()
            if self.person.drivers() or not self.waiting:
                continue
            if again and self.person.is_active():
                again -= 1
                self.until(lambda: False, 0.4)
                self.world.say("the user resumes")
                self.person.type("resume", **options)
            elif not self.until(lambda: self.person.drivers() or not self.waiting, 1.5):
                break

    def _patience(self, person):
        """`towline resume --all` until no run is active, a bounded number of times."""
        for turn in range(_PATIENCE):
            self.until(lambda: not self._busy(person), LIMIT_S)
            states = self.states[person] = self._ask_states(person)
            if "active" not in states:
                return
            self.until(lambda: False, 0.5 * turn)
            command = person.type("resume", "--all")
            self.until(lambda command=command: command.code is not None, LIMIT_S)
        self.wrong.append(f"still active after {_PATIENCE} resumes")

    def _busy(self, person):
        return person.drivers() or any(one.code is None for one in person.commands)

    def _ask_states(self, person):
        """What `towline ls` says of the runs."""
        command = person.type("ls", "--json")
        self.until(lambda: command.code is not None, LIMIT_S)
        try:
            rows = json.loads(command.text())
            return [row["state"] for row in rows]
        except (ValueError, TypeError, KeyError):
            self.wrong.append(f"`ls --json` said: {command.text()[:300]}")
            return []

    def facts(self, person, **more):
        """What is known of a person's training without asking towline."""
        mine = person is self.person
        limit = 2.0 if mine and self.world.scenario["limits"] else None
        return Facts(
            record=person.record(), wishes=self.wishes if mine else [],
            may_end=self.may_end, limit_s=limit, typed_at=person.commands[0].at, **more,
        )  # fmt: skip

    def judge(self):
        """After the patience: everything is looked at."""
        world = self.world
        self.until(lambda: not world.left(), _TIDY_S)
        left = world.left()
        for person in world.people:
            facts = self.facts(
                person, states=self.states[person], log=person.log_at_home(),
                metrics=person.metrics_at_home(), model=person.model_at_home(),
            )  # fmt: skip
            self.wrong += judge(facts)
        self.wrong += [f"left: {one}" for one in left]
        self.wrong += [f"touched: {one}" for one in world.touched()]


def run(root, seed, keep=None):
    """Live a seed; the report."""
    scenario = draw(seed)
    if keep is not None:
        scenario["strikes"] = [scenario["strikes"][number] for number in keep]
    world = World(root, scenario)
    life = Life(world)
    try:
        life.live()
        life.judge()
    except Hangs:
        life.wrong.append(f"hangs: not over after {LIMIT_S:.0f} s")
    finally:
        for entry in list(life.active):
            life._mend(entry)
        story = list(world.story)
        if life.wrong:
            story += _said(world)
        world.close()
    wrong = list(dict.fromkeys(life.wrong))
    seconds = round(time.monotonic() - world.began, 1)
    return {
        "seed": seed, "scenario": scenario, "wrong": wrong, "story": story, "seconds": seconds,
        "struck": life.struck,
    }  # fmt: skip


def _said(world):
    """What every command printed, for a story that went wrong; and the training's own last words."""
    said = []
    for person in world.people:
        for command in person.commands:
            lines = command.text().splitlines()[-12:]
            said += [f"--- towline {' '.join(command.argv)} -> {command.code}", *lines]
        for log in person.home.glob("runs/*/driver.log"):
            said += [f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-12:]]
        kinds = [{**row, "text": ""} if row["kind"] == "line" else row for row in person.record()]
        said += ["--- record", *(json.dumps(row) for row in kinds if row["kind"] != "line")]
    return said


def main(argv):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    keep = [int(one) for one in argv[2].split(",") if one] if len(argv) > 2 else None
    print(json.dumps(run(Path(argv[0]), int(argv[1]), keep)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
