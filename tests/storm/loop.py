"""An event loop whose time is the world's: it jumps to whatever comes next, and nothing waits.

Each callback belongs to a simulated process of the laptop (a context variable says which): callbacks
of a process that was killed are never run again, not even their `finally`. The order in which
different processes get their turn is the seed's to say; within one process it is asyncio's own.
"""

import asyncio
import collections
import contextlib
import contextvars
import heapq

#: the simulated process that code runs in; None: the user, or the world
CURRENT = contextvars.ContextVar("storm_process", default=None)
MOST_IDLE_TURNS = 6_000  # turns without time passing: somebody spins


class Spinning(Exception):
    """The loop has turned very often without time passing."""


class StormLoop(asyncio.BaseEventLoop):
    """`world.now` is true time; the laptop's monotonic time is behind it by what it slept."""

    def __init__(self, world, rng):
        super().__init__()
        self.world = world
        self.slept = 0.0
        self.failures = []  # (process, exception) of tasks that nobody looked at
        self._rng = rng
        self._turns = 0
        self.set_exception_handler(self._on_failure)

    def time(self):
        return self.world.now - self.slept

    def pass_time(self, seconds):
        """The process that runs now is stuck in a call for so long; the world goes on."""
        self.world.advance(self.world.now + seconds)
        self._turns = 0

    def sleep_laptop(self, seconds):
        """Suspend: the laptop's monotonic clock and its timers stand still."""
        self.slept += seconds
        self.world.advance(self.world.now + seconds)
        self._turns = 0

    def _on_failure(self, _loop, context):
        self.failures.append((CURRENT.get(), context.get("exception"), context.get("message")))

    def drop(self):
        """Let go of what was cut off in mid-air: tasks of processes that were killed."""
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False
            with contextlib.suppress(BaseException):
                task.get_coro().close()
        self._ready.clear()
        self._scheduled.clear()
        self.close()

    def __del__(self):
        pass

    # -- what BaseEventLoop asks of a loop ------------------------------------------------------

    def _process_events(self, event_list):
        pass

    def _write_to_self(self):
        pass

    def add_signal_handler(self, *_args):
        pass

    def remove_signal_handler(self, *_args):
        return True

    def run_in_executor(self, _executor, func, *args):
        """Run at once: a thread's timing would be no seed's to repeat."""
        future = self.create_future()
        try:
            value = func(*args)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
            if isinstance(error, StopIteration):
                error = RuntimeError("StopIteration in a thread")
            self.call_soon(_settle, future, None, error)
        else:
            self.call_soon(_settle, future, value, None)
        return future

    def _run_once(self):
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False
        if not ready and not self._stopping:
            self._jump()
        now = self.time() + 1e-9
        while scheduled and scheduled[0]._when <= now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1
            else:
                ready.append(handle)
        self._turns += 1
        if self._turns > MOST_IDLE_TURNS:
            self._turns = 0
            raise Spinning(f"{MOST_IDLE_TURNS} turns at {self.time():.3f}")
        for handle in self._in_turn():
            process = handle._context.get(CURRENT)
            if handle._cancelled or (process is not None and not process.alive):
                continue
            handle._run()
        handle = None

    def _in_turn(self):
        """The callbacks of this turn: by process in an order of the seed's."""
        ready, self._ready = self._ready, collections.deque()
        if len(ready) < 2:
            return ready
        groups = {}
        for handle in ready:
            groups.setdefault(handle._context.get(CURRENT), []).append(handle)
        if len(groups) == 1:
            return ready
        order = list(groups.values())
        self._rng.shuffle(order)
        return [handle for group in order for handle in group]

    def _jump(self):
        """Nothing is ready: time passes until the next timer, or what the world does before."""
        world = self.world
        while not self._ready:
            due = self._scheduled[0]._when + self.slept if self._scheduled else None
            event = world.next_at()
            if due is None and event is None:
                raise Spinning("nothing will ever happen again")
            if due is None or (event is not None and event <= due):
                world.advance(event)
                self._turns = 0
            else:
                if due > world.now:
                    self._turns = 0
                world.advance(max(due, world.now))
                return

    def _check_running(self):  # several lives may be run below one another in tests
        pass


def _settle(future, value, error):
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


def run(loop, coroutine):
    """Run to its end, without the ceremonies of `asyncio.run`: what is left is just dropped."""
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(coroutine)
    finally:
        asyncio.set_event_loop(None)


def within(process, function, *args):
    """Call a function as a process's own."""
    return contextvars.copy_context().run(_as, process, function, *args)


def _as(process, function, *args):
    CURRENT.set(process)
    return function(*args)
