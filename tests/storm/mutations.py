"""Each rule switched back, as the code was before it: the storm must notice each within 2,000 lives.

`python -m tests.storm.mutations [NAME ...]` lives until each is found, and says after how many.
"""

import contextlib
import sys
import time

import towline.context
import towline.ending
import towline.following.log
import towline.following.reports
import towline.recover
import towline.renting
import towline.runner
import towline.steps.acquire
import towline.steps.follow
import towline.steps.release
import towline.store.database
import towline.taskfile
from tests.storm import box, install
from towline import errors
from towline.core.run import StepName
from towline.core.task import Limits

WITHIN = 2000


def _put(owner, name, value):
    """A mutation that puts another value in a place."""
    return [(owner, name, value)]


def _rule(name, value):
    """A mutation of the program on the instance, in its model."""
    return [(box.RULES, name, value)]


async def _anyone(_provider, _row):
    return None


async def _alive_unless_refused(ctx):
    """Any trouble with the API counts as the instance's death."""
    row = ctx.ledger_row()
    if row is None or row.instance_id is None:
        return
    try:
        provider = ctx.provider_named(row.provider)
        if await provider.get(row.instance_id) is None:
            raise errors.InstanceLost("it is gone")
    except errors.ProviderUnavailable:
        return
    except errors.ProviderError as refused:
        raise errors.InstanceLost(refused.message) from refused


async def _line_without_guard(ctx):
    """A driver that takes over boards the instance and leaves its guard alone."""
    line = ctx.open_line(ctx.address())
    if not ctx._boarded:
        await line.persist(lambda: ctx.board(line))
    return line


async def _gone_without_terminate(self):
    """Absence is believed at once, and nothing was asked to end."""
    if not await self._look():
        return f"{self._provider.name} does not know it any more"
    await self._terminate()
    return None


async def _key_of_this_shell(ctx, row):
    return ctx.provider_named(row.provider)


async def _never_adopted(ctx):
    row = ctx.ledger_row()
    ctx.journal.gone(row.number, "not looked for")
    return False


async def _no_strays(_ctx, _provider):
    return []


def _by_wall_clock(self):
    """The limit by this machine's clock, as it was."""
    row, limits = self.ctx.ledger_row(), self.ctx.task.limits
    if row is None:
        return None
    seconds = self.ctx.clock.now() - (row.created_at or row.intent_at)
    if limits.max_duration is not None and seconds >= limits.max_duration:
        return "max_duration reached"
    spent = seconds / 3600 * row.price_usd_per_h
    return "max_cost reached" if limits.max_cost is not None and spent >= limits.max_cost else None


def _with_grace(self, price):
    """The limits as time, and the grace on top of the cap too."""
    end = self.training_end(price)
    return None if end is None else end[0] + self.gather_grace


def _all_of_it(self, price):
    """Nothing of the cap is kept back for the way home."""
    ends = [] if self.max_duration is None else [(float(self.max_duration), "max_duration")]
    if self.max_cost is not None and price > 0:
        ends.append((self.max_cost / price * 3600, "max_cost"))
    return min(ends, default=None)


def _in_two_writes(self, facts, reports):
    """How far was read is written before what was read."""
    self._ctx.journal.advance(facts, [])
    self._ctx.journal.advance({}, [("progress", data) for data in reports])


async def _tidy_is_trusting(provider, tag, memo, clock):
    """Leftovers that can't be listed are none."""
    try:
        left = [one for one in await provider.leftovers({tag: memo}) if one.tag == tag]
        for one in left:
            await provider.remove(one)
    except errors.ProviderError:
        left = []
    return towline.ending.Tidied(left, [], None, False)


def _orphans_of_anybody(store, provider, tag, instance_id):
    claim = _really_claim(store, provider, tag, instance_id)
    return "orphans" if claim == "foreign" else claim


_really_claim = towline.recover._claim


def _strictly(run, _attempts, _journal):
    return towline.taskfile.validate(run.task["spec"], "the stored task")


def _ends(step, *kinds):
    return towline.runner._ENDS | {step: kinds}


async def _impatiently(self):
    """Only a broken line is waited out, as it was; whatever else goes wrong ends the step."""
    waited_out = (errors.ConnectionLost, errors.HostKeyMismatch, errors.RemoteAuthError)
    while True:
        try:
            line = await self.ctx.line()
            return await self._read(line)
        except waited_out as lost:
            await self._unreachable(lost)
            await self.ctx.clock.sleep(1.0)


def _hold_but_not_while_following(ctx, name, error):
    if name is not StepName.FOLLOW:
        _really_hold(ctx, name, error)


_really_hold = towline.runner._hold


@contextlib.contextmanager
def _writing_plainly(_path):
    yield


@contextlib.contextmanager
def _blocked(_out):
    yield


#: name -> places and what stands in them; "as it was" of each rule of the issue
MUTATIONS = {
    "an error while following ends the training": [
        (towline.runner, "_hold", _hold_but_not_while_following),
        (towline.steps.follow._Follower, "to_the_end", _impatiently),
        (towline.store.database, "_TRIES", 80),
    ],
    "a failing log file is a bug of ours": _put(towline.following.log, "writing", _writing_plainly),
    "an API's refusal is the instance's death": _put(
        towline.context.Context, "require_alive", _alive_unless_refused
    ),
    "gone without a terminate": _put(towline.ending._Ending, "go_on", _gone_without_terminate),
    "the settle window is ignored": _put(towline.ending._Ending, "_believed_at", lambda _self: 0.0),
    "another account's word counts": [
        (towline.context, "require_renter", _anyone),
        (towline.recover, "require_renter", _anyone),
    ],
    "a lost create is not looked for": [
        (towline.renting, "adopt", _never_adopted),
        (towline.steps.acquire, "adopt", _never_adopted),
        (towline.steps.release, "_strays", _no_strays),
    ],
    "the survey is cut and nobody says so": _rule("survey_cut", 3),
    "stop judges before it looks": _put(
        sys.modules["towline.core.run"], "start_is_unknown", lambda _attempts: False
    ),
    "a kept instance is never ended": _put(towline.recover, "_left_s", lambda *_args: 1.0),
    "release loops without a key": [
        (towline.context.Context, "provider_of_row", _key_of_this_shell),
        (towline.runner, "_ENDS", _ends(StepName.RELEASE, errors.CredentialsError)),
    ],
    "limits by the laptop's clock": _put(
        towline.steps.follow._Follower, "_limit_reached", _by_wall_clock
    ),
    "the grace comes on top of the cap": [
        (Limits, "lifetime_s", _with_grace),
        (Limits, "training_end", _all_of_it),
    ],
    "the guard needs the disk": _rule("guard_needs_disk", True),
    "the guard waits for the job": _rule("guard_waits_for_the_job", True),
    "nobody arms the guard again": [
        (towline.context.Context, "line", _line_without_guard),
        (box.RULES, "guard_returns", False),
    ],
    "the exit marker needs the disk": _rule("exit_marker_needs_disk", True),
    "halt waits for ever": _rule("halt_waits_for_ever", True),
    "the terminal holds the driver up": _put(install.SimOut, "unblocked", _blocked),
    "leftovers unseen are none": _put(towline.steps.release, "tidy", _tidy_is_trusting),
    "a sweep takes what is another laptop's": _put(towline.recover, "_claim", _orphans_of_anybody),
    "another version's task can't be aborted": _put(
        sys.modules["towline.api"], "stored_task", _strictly
    ),
    "reports and their place are written apart": _put(
        towline.following.reports.Reports, "record", _in_two_writes
    ),
}


@contextlib.contextmanager
def applied(name):
    """Have a mutation in place."""
    before = []
    for owner, place, value in MUTATIONS[name]:
        if isinstance(owner, dict):
            before.append((owner, place, owner[place]))
            owner[place] = value
        else:
            before.append((owner, place, getattr(owner, place)))
            setattr(owner, place, value)
    try:
        yield
    finally:
        for owner, place, value in before:
            if isinstance(owner, dict):
                owner[place] = value
            else:
                setattr(owner, place, value)


def found_after(name, first=1, within=WITHIN, workers=2):
    """After how many lives a mutation is noticed: (lives, seed, what broke), or None.

    A seed counts only when the same life breaks nothing without the mutation.
    """
    from tests.storm.__main__ import lived, names, quietly, storm
    from tests.storm.plan import draw

    quietly()
    for start in range(first, first + within, 50):
        _count, failed = storm(start, 50, workers=workers, mutation=name, progress=False)
        for seed in sorted(failed):
            if not lived(draw(seed, names())).world.broken:
                return seed - first + 1, seed, failed[seed]
    return None


def main():
    """Try them all, or those that are named; exit 1 when one is not noticed."""
    names = sys.argv[1:] or list(MUTATIONS)
    missed = 0
    for name in names:
        began = time.time()
        found = found_after(name)
        missed += found is None
        said = f"NOT FOUND within {WITHIN} lives"
        if found is not None:
            lives, seed, broken = found
            said = f"after {lives} lives (seed {seed}): {broken[0][0]}: {broken[0][1]}"
        print(f"{name} ({time.time() - began:.0f} s): {said}", flush=True)
    install.clean()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
