"""Live many lives and tell what broke: `make storm N=1000 SEED=1`.

A failing seed is told as a short story, with its plan made as small as it gets; the plan is kept as
JSON, and `python -m tests.storm.replay FILE` lives it again.
"""

import argparse
import contextlib
import faulthandler
import gc
import json
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

_LIFE_S = 20  # of processor time: a life that takes longer spins
_CHUNK = 10
_SHOWN = 40  # lines of a story


class TooSlow(BaseException):
    """A life takes for ever in real time."""


def names():
    """All providers that a life may be drawn for."""
    from tests.storm import install

    return [*install.features(), "ssh"]


def lived(plan):
    """Live one plan; the life."""
    from tests.storm import install
    from tests.storm.life import Life

    life = Life(plan, install.root() / "life")

    def too_slow(*_args):
        life.world.breaks("no livelock", f"a life took more than {_LIFE_S} s of processor time")
        life.hopeless()
        raise TooSlow

    signal.signal(signal.SIGVTALRM, too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, _LIFE_S, 1.0)
    try:
        life.live()
    except TooSlow:
        pass
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return life


def quietly():
    """Coroutines of killed processes are dropped in mid-air; Python need not tell of each."""
    faulthandler.register(signal.SIGUSR1)
    sys.unraisablehook = lambda _what: None
    warnings.simplefilter("ignore", RuntimeWarning)
    gc.collect()
    gc.freeze()  # what is there by now stays: the collections after each life are quick then


def _lives(job):
    """A worker's share: (seed, broken, trace) of each."""
    from tests.storm.plan import draw

    first, count, mutation = job
    quietly()
    found = []
    with _mutated(mutation):
        for seed in range(first, first + count):
            life = lived(draw(seed, names()))
            found.append((seed, life.world.broken, life.world.trace()))
    return found


@contextlib.contextmanager
def _mutated(name):
    if name is None:
        yield
        return
    from tests.storm.mutations import applied

    with applied(name):
        yield


def smaller(seed, invariant):
    """The smallest plan of a seed that breaks an invariant, and its story."""
    from tests.storm.plan import draw
    from tests.storm.shrink import shrunk

    quietly()

    def fails(plan):
        return any(one[0] == invariant for one in lived(plan).world.broken)

    plan = shrunk(draw(seed, names()), fails)
    return plan, lived(plan)


def _shrink(job):
    (seed, invariant), mutation = job
    with _mutated(mutation):
        plan, life = smaller(seed, invariant)
        return seed, invariant, plan, life.world.story, life.world.broken, life.commands


def storm(first, count, *, workers=2, mutation=None, enough=None, progress=True):
    """Live seeds ``first`` to ``first + count - 1``.

    Returns:
        (how many were lived, {seed: broken}); less are lived once ``enough`` seeds have failed.
    """
    jobs = [
        (s, min(_CHUNK, first + count - s), mutation) for s in range(first, first + count, _CHUNK)
    ]
    failed, done, began = {}, 0, time.time()
    with multiprocessing.Pool(workers) as pool:
        for part in pool.imap_unordered(_lives, jobs):
            done += len(part)
            failed |= {seed: broken for seed, broken, _trace in part if broken}
            if progress and done % 100 < _CHUNK:
                rate = done / (time.time() - began) * 60
                print(f"{done} lives, {len(failed)} failed, {rate:.0f} a minute", flush=True)
            if enough is not None and len(failed) >= enough:
                return done, failed
        pool.close()
        pool.join()  # a worker that measures coverage says so when it ends
    return done, failed


def signature(invariant, plan, broken):
    """What makes two failures the same: the invariant, and the kinds of what brought it about."""
    kinds = sorted({_kind(fault) for fault in plan["faults"]})
    extra = sorted(key for key in ("keep", "model") if key in plan["task"])
    limits = sorted(plan["task"]["limits"])
    keys = sorted({key for key in plan["user"]["keys"] if key != "right"})
    return (invariant, *kinds, *extra, *limits, *keys)


def _kind(fault):
    return fault["what"] + (f"@{fault['at']}" if "at" in fault else "") + fault.get("name", "")


def tell(seed, invariant, plan, story, broken, commands, folder):
    """Print a failure, keep its plan."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{seed}-{invariant.replace(' ', '-').replace(',', '')[:40]}.json"
    path.write_text(json.dumps(plan, indent=1) + "\n")
    print(f"\nseed {seed}: {invariant}: {dict(broken).get(invariant)}")
    print(f"  at {plan['provider']}, task {plan['task']}, job {plan['job']}")
    for fault in plan["faults"]:
        print(f"  fault {fault}")
    for at, text in story[-_SHOWN:]:
        print(f"  {at:10.2f} {text}")
    print(f"  later keys {plan['user']['keys']}, words {sorted(set(plan['user']['words']))}")
    print(f"  commands: {commands}\n  plan: {path}", flush=True)


def main():
    """Read the arguments; exit 1 when an invariant broke."""
    reading = argparse.ArgumentParser(description=__doc__)
    reading.add_argument("--lives", type=int, default=1000)
    reading.add_argument("--seed", type=int, default=1)
    reading.add_argument("--workers", type=int, default=2)
    reading.add_argument("--shrink", type=int, default=3, help="of each invariant so many")
    reading.add_argument("--mutation")
    reading.add_argument("--plans", type=Path, default=Path("build/storm"))
    given = reading.parse_args()
    try:
        return told(given)
    finally:
        from tests.storm import install

        install.clean()


def told(given):
    """Live, count, shrink and tell."""
    began = time.time()
    done, failed = storm(given.seed, given.lives, workers=given.workers, mutation=given.mutation)
    took = time.time() - began
    counts = Counter(name for broken in failed.values() for name, _text in broken)
    print(f"{done} lives in {took:.1f} s ({done / took * 60:.0f} a minute), {len(failed)} failed")
    for name, count in counts.most_common():
        print(f"  {count:5d}  {name}")
    chosen = []
    for name in counts:
        seeds = sorted(seed for seed, broken in failed.items() if name in dict(broken))
        chosen += [((seed, name), given.mutation) for seed in seeds[: given.shrink]]
    seen = set()
    with multiprocessing.Pool(given.workers) as pool:
        for seed, name, plan, *rest in pool.imap_unordered(_shrink, chosen):
            mark = signature(name, plan, rest[1])
            if mark not in seen:
                seen.add(mark)
                tell(seed, name, plan, *rest, given.plans)
        pool.close()
        pool.join()
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets and dicts in one order, always
        os.execve(sys.executable, [sys.executable, "-m", "tests.storm", *sys.argv[1:]],
                  os.environ | {"PYTHONHASHSEED": "0"})  # fmt: skip
    sys.exit(main())
