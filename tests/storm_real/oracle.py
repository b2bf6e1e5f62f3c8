"""What must hold of a life, whatever struck: judged by the training's own record, never by the journal."""

from dataclasses import dataclass, field

CODES = {0, 1, 2, 3, 4, 5, 6, 11, 130}
_ENDED = {"succeeded", "failed", "stopped", "aborted"}
#: commands that end with a run's end, and say by 0 that it has its model
_SAY_THE_END = ("train", "resume", "attach", "wait")


@dataclass
class Facts:
    """What is known without towline: the record, what the user asked for, and what came home."""

    record: list  # see `script`
    wishes: list = field(default_factory=list)  # (at, "stop" or "abort")
    may_end: list = field(default_factory=list)  # (at, why): faults that end a training
    limit_s: float | None = None
    typed_at: float = 0.0  # when `towline train` was typed: no limit counts from before
    states: list = field(default_factory=list)  # what `towline ls` says in the end
    log: bytes | None = None
    metrics: list = field(default_factory=list)
    model: str | None = None  # SHA-256 at home

    def of(self, kind):
        return [row for row in self.record if row["kind"] == kind]

    def model_written(self):
        """SHA-256 of what the training saved last, None when it saved nothing."""
        models = self.of("model")
        return models[-1]["sha256"] if models else None

    def wished(self, what):
        return any(wish == what for _at, wish in self.wishes)

    def reason(self, at):
        """Why a training may have been ended at a moment; None without one."""
        if any(asked <= at for asked, _wish in self.wishes):
            return "the user's wish"
        if self.limit_s is not None and at - self.typed_at >= self.limit_s:
            return "a limit"
        return next((why for struck, why in self.may_end if struck <= at), None)


@dataclass
class Seen:
    """One command when it ended, and what was there at that moment."""

    argv: list
    code: int
    text: str
    killed: bool = False  # a fault of ours asked it to end
    instances: int = 0
    model: str | None = None


def judge(facts):
    """Every check on a life that is over; sentences that say what is wrong."""
    return [wrong for check in CHECKS for wrong in check(facts)]


def trained_once(facts):
    starts = len(facts.of("start"))
    if starts > 1:
        yield f"trained {starts} times"
    if starts == 0 and "succeeded" in facts.states:
        yield "succeeded, and nothing was trained"


def not_ended_without_a_reason(facts):
    for row in facts.of("signal"):
        if facts.reason(row["at"]) is None:
            yield "a healthy training was asked to end: SIGTERM, with none of the four reasons"
    if facts.of("start") and not facts.of("end") and facts.reason(float("inf")) is None:
        yield "a healthy training never came to its end, with none of the four reasons"


def every_run_ended(facts):
    for state in facts.states:
        if state not in _ENDED:
            yield f"a run is {state}, when all is mended and the user was patient"


def state_is_true(facts):
    """`ls` tells what became of the training."""
    ends = facts.of("end")
    well = bool(ends) and ends[-1]["code"] == 0
    if "succeeded" in facts.states and not well:
        yield f"`ls` says succeeded; the training ended with {ends[-1]['code'] if ends else 'nothing'}"
    if well and "failed" in facts.states and not facts.may_end and not facts.limit_s:
        yield "`ls` says failed; the training ended well"
    if "stopped" in facts.states and not facts.wished("stop"):
        yield "`ls` says stopped; nobody asked"
    if "aborted" in facts.states and not facts.wished("abort"):
        yield "`ls` says aborted; nobody asked"


def log_is_whole(facts):
    """Each line once, in order; of a training that was killed the last one may be cut."""
    if "aborted" in facts.states or not facts.of("start") or _is_gone(facts):
        return
    wrote = "".join(row["text"] + "\n" for row in facts.of("line")).encode()
    if facts.log is None:
        yield "no log came home"
    elif facts.of("end") and not facts.of("signal"):
        if facts.log != wrote:
            yield f"the log at home differs from what was written: {_difference(facts.log, wrote)}"
    elif not facts.log.startswith(wrote) or facts.log.count(b"\n") > wrote.count(b"\n") + 1:
        yield f"the log at home differs from what was written: {_difference(facts.log, wrote)}"


def _difference(home, wrote):
    at = next((n for n, (a, b) in enumerate(zip(home, wrote, strict=False)) if a != b), None)
    return f"{len(home)} bytes for {len(wrote)}" + ("" if at is None else f", from byte {at}")


def metrics_are_whole(facts):
    """No epoch twice, none out of order."""
    epochs = [line.split(",")[1] for line in facts.metrics[1:]]
    numbers = [float(epoch) for epoch in epochs if epoch]
    if numbers != sorted(set(numbers)):
        yield f"metrics at home have epochs twice or out of order: {epochs}"


def model_is_home(facts):
    """Discarded by an abort only, lost with its machine only."""
    if "aborted" in facts.states or _is_gone(facts) or facts.model_written() is None:
        return
    if facts.states and facts.model != facts.model_written():
        what = "no model" if facts.model is None else "another model"
        yield f"{what} is home; the training had saved one"


def _is_gone(facts):
    return any("gone" in why for _at, why in facts.may_end)


CHECKS = (
    trained_once, not_ended_without_a_reason, every_run_ended, state_is_true, log_is_whole,
    metrics_are_whole, model_is_home,
)  # fmt: skip


# -- commands -------------------------------------------------------------------------------------


def judge_command(facts, seen):
    """Every check on a command at the moment of its end."""
    told = f"`towline {' '.join(seen.argv)}` -> {seen.code}"
    return [f"{told}: {wrong}" for check in COMMAND_CHECKS for wrong in check(facts, seen)]


def speaks_plainly(_facts, seen):
    if "Traceback" in seen.text:
        yield "it shows a traceback"
    if seen.code == 1 and "journal" not in seen.text:
        yield "unexpected, and no trouble of the journal's"


def code_is_documented(_facts, seen):
    if seen.code not in CODES and not seen.killed:
        yield "no exit code of towline's"


def zero_means_done(facts, seen):
    """0 of a command that waits for the end: the model is home, and nothing bills."""
    if seen.code != 0 or seen.argv[0] not in _SAY_THE_END or {"--detach", "--all"} & set(seen.argv):
        return
    if facts.wished("abort"):
        return
    if facts.model_written() is None or seen.model != facts.model_written():
        yield "the model is not home"
    if seen.instances:
        yield f"{seen.instances} instances are left"


def an_end_means_no_instance(_facts, seen):
    if seen.code in (3, 4) and seen.instances and seen.argv[0] in _SAY_THE_END:
        yield f"it says that the instance is gone; {seen.instances} are left"


def a_held_run_keeps_its_instance(facts, seen):
    """5 while the training has not come to its end: it goes on over there."""
    unended = facts.of("start") and not facts.of("end") and not facts.wishes and not facts.may_end
    if seen.code == 5 and unended and not facts.limit_s and not seen.instances:
        yield "the training had not ended, and its instance is gone"


COMMAND_CHECKS = (
    speaks_plainly, code_is_documented, zero_means_done, an_end_means_no_instance,
    a_held_run_keeps_its_instance,
)  # fmt: skip
