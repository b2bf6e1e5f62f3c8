"""What may go wrong. A fault is a context: it strikes when entered and is mended when left.

Here: disks, processes and descriptors. In `faults_around`: the way, files and clocks.
"""

import contextlib
import resource
import signal
from dataclasses import dataclass

import psutil

HERE, THERE, WAY = "here", "there", "way"


@dataclass(frozen=True)
class Fault:
    """One kind of trouble; ``may_end`` says of what a training may end by it."""

    strike: object
    where: str
    providers: tuple = ("local", "ssh")
    weight: float = 1.0
    holds_s: tuple = (0.2, 2.5)
    may_end: str = ""


FAULTS = {}


def fault(where, **more):
    def note(function):
        FAULTS[function.__name__] = Fault(contextlib.contextmanager(function), where, **more)
        return function

    return note


# -- disks ----------------------------------------------------------------------------------------


def _full(disk):
    disk.fill()
    try:
        yield
    finally:
        disk.empty()


@fault(THERE)
def instance_disk_full(world):
    yield from _full(world.far_disk)


@fault(HERE)
def home_disk_full(world):
    yield from _full(world.home_disk)


@fault(HERE)
def results_disk_full(world):
    yield from _full(world.results_disk)


@fault(HERE)
def results_read_only(world):
    with world.results_disk.read_only():
        yield


# -- processes and descriptors --------------------------------------------------------------------


@fault(THERE)
def instance_out_of_processes(world):
    processes = world.instance()
    if world.sshd and world.sshd.process:
        processes.append(psutil.Process(world.sshd.process.pid))
    with world.no_more_processes(processes):
        yield


@fault(HERE)
def driver_out_of_processes(world):
    with world.no_more_processes(world.person.drivers()):
        yield


@fault(HERE)
def driver_out_of_descriptors(world):
    before = {}
    for driver in world.person.drivers():
        with contextlib.suppress(psutil.Error):
            before[driver] = driver.rlimit(resource.RLIMIT_NOFILE)
            driver.rlimit(resource.RLIMIT_NOFILE, (driver.num_fds(), before[driver][1]))
    try:
        yield
    finally:
        for driver, limits in before.items():
            with contextlib.suppress(psutil.Error):
                driver.rlimit(resource.RLIMIT_NOFILE, limits)


def send(processes, number):
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def stopped(processes):
    send(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        send(processes, signal.SIGCONT)


@fault(HERE)
def driver_stopped(world):
    yield from stopped(world.person.drivers())


@fault(HERE, weight=0.12, holds_s=(16, 17))
def driver_stopped_for_longer_than_its_lease(world):
    yield from stopped(world.person.drivers())


@fault(WAY, providers=("ssh",))
def connections_stopped(world):
    yield from stopped(world.connections())


@fault(THERE)
def follow_stopped(world):
    yield from stopped(world.onboard("follow"))


@fault(THERE)
def guard_stopped(world):
    yield from stopped(world.onboard("guard"))


@fault(HERE, weight=3.0, holds_s=(0, 0))
def driver_killed(world):
    for command in world.person.commands:
        command.killed |= command.drives()
    send(world.person.drivers(), signal.SIGKILL)
    yield


def _asked_to_leave(world, number):
    for command in world.person.commands:
        command.killed |= command.drives()
    send(world.person.drivers(), number)
    yield


@fault(HERE, holds_s=(0, 0))
def driver_interrupted(world):
    yield from _asked_to_leave(world, signal.SIGINT)


@fault(HERE, holds_s=(0, 0))
def driver_terminated(world):
    yield from _asked_to_leave(world, signal.SIGTERM)


@fault(HERE, holds_s=(0, 0))
def terminal_closed(world):
    yield from _asked_to_leave(world, signal.SIGHUP)


@fault(THERE, holds_s=(0, 0))
def guard_killed(world):
    send(world.onboard("guard"), signal.SIGKILL)
    yield


@fault(THERE, holds_s=(0, 0))
def follow_killed(world):
    send(world.onboard("follow"), signal.SIGKILL)
    yield


@fault(THERE, weight=0.4, holds_s=(0, 0), may_end="the supervisor was killed")
def supervisor_killed(world):
    supervisors = [one for one in world.onboard("start") if one.ppid() == 1]
    send(supervisors, signal.SIGKILL)
    yield


@fault(THERE, weight=0.4, providers=("ssh",), holds_s=(0.2, 2), may_end="the machine started anew")
def instance_reboots(world):
    """Every process ends at once, and the server is back later."""
    if world.sshd.process is None:  # it is away already
        send(world.instance(), signal.SIGKILL)
        yield
        return
    world.sshd.process.send_signal(signal.SIGSTOP)
    send(world.instance(), signal.SIGKILL)
    world.sshd.process.kill()
    world.sshd.process.wait()
    world.sshd.process = None
    try:
        yield
    finally:
        world.sshd.start()


@fault(THERE, weight=0.3, providers=("local",), holds_s=(0, 0), may_end="the machine is gone")
def instance_dies(world):
    send(world.instance(), signal.SIGKILL)
    yield
