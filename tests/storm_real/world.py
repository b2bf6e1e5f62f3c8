"""The machine of one life: its own mounts, network and processes, which end with it.

Runs as a child of process 1 in fresh namespaces (see `__main__`): what is mounted, dropped or killed here
is nobody else's.
"""

import contextlib
import os
import subprocess
import time
from pathlib import Path

import psutil

from tests.contracts.test_ssh import Sshd
from tests.onboard.machine import old_python
from tests.storm_real.person import Person

_DISK = "size=100m,mode=700"  # an upload wants 64 MiB beside it
#: libfaketime 0.9 makes the sleep of Python 3.11 and later fail: the instance's Python is an older one
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
PIDS = Path("/sys/fs/cgroup/pids")


def sh(*argv):
    subprocess.run([str(one) for one in argv], check=True, capture_output=True)


class Server(Sshd):
    """The instance's server; it says itself that it accepts, for the way to it may be closed."""

    def start(self, prefix=()):
        (self.folder / "log").write_text("")
        super().start(prefix)

    def accepts(self):
        return "Server listening" in (self.folder / "log").read_text()


class Disk:
    """A small file system that can be filled, and closed to writing."""

    def __init__(self, path, options=_DISK):
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        sh("mount", "-t", "tmpfs", "-o", options, "none", path)
        self._fd = os.open(
            path, os.O_RDONLY | os.O_DIRECTORY
        )  # below what `read_only` puts over it
        self._filler = Path(f"/proc/self/fd/{self._fd}/.filler")

    def fill(self):
        with self._filler.open("wb", 0) as filler:
            while True:  # others write and remove meanwhile
                found = os.statvfs(self.path)
                free = found.f_bavail * found.f_frsize
                if not free:
                    return
                with contextlib.suppress(OSError):
                    os.posix_fallocate(filler.fileno(), filler.seek(0, os.SEEK_END), free)

    def empty(self):
        self._filler.unlink(missing_ok=True)

    @contextlib.contextmanager
    def read_only(self):
        """What is opened from now on can't be written."""
        sh("mount", "--bind", self.path, self.path)
        sh("mount", "-o", "remount,bind,ro", self.path)
        try:
            yield
        finally:
            sh("umount", "-l", self.path)

    def close(self):
        os.close(self._fd)
        sh("umount", self.path)


class Clock:
    """The wall clock of one side, through libfaketime; the clock that never jumps is left alone."""

    def __init__(self, path):
        self.path = path
        self.set(0)

    def set(self, off_s):
        self.path.write_text(f"{off_s:+d}\n")

    def environment(self):
        return {
            "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip


class World:
    """Everything of one life; `story` is what happened when."""

    def __init__(self, root, scenario):
        self.root = root
        self.scenario = scenario
        self.began = time.monotonic()
        self.story = []
        self.frozen = False  # nobody reads the terminals
        sh("ip", "link", "set", "lo", "up")
        sh(
            "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"
        )  # a laptop has a card
        sh("mount", "-t", "tmpfs", "none", "/dev/shm")
        self.here, self.there = Clock(root / "clock-here"), Clock(root / "clock-there")
        self.sshd = self._serve() if scenario["provider"] == "ssh" else None
        resources = {"provider": "local"}
        if self.sshd:
            keys = ("host", "identity", "known_hosts")
            resources = {"provider": "ssh"} | {key: getattr(self.sshd.need, key) for key in keys}
        environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
        if "here" in scenario["clocks"]:
            environment |= self.here.environment()
        self.person = Person(
            root / "u", scenario["plan"], resources, environment, limits=scenario["limits"]
        )
        self.people = [self.person]
        if scenario["neighbour"]:
            self.people.append(Person(root / "n", scenario["neighbour"], resources, environment))
        self.home_disk = Disk(self.person.home)
        self.results_disk = Disk(self.person.project / "runs")
        if self.sshd is None:
            self.far_disk = Disk(self.person.home / "local")
        self._bystanders()

    def _serve(self):
        (self.root / "s").mkdir()
        sshd = Server(self.root / "s")
        self.far_disk = Disk(sshd.home)
        (sshd.folder / "tmux").mkdir()
        more = {"TMUX_TMPDIR": sshd.folder / "tmux"}
        if "there" in self.scenario["clocks"]:
            (sshd.folder / "bin").mkdir()
            (sshd.folder / "bin" / "python3").symlink_to(old_python())
            more |= self.there.environment() | {"PATH": f"{sshd.folder}/bin:{os.defpath}"}
        config = sshd.folder / "config"
        told = " ".join(f"{key}={value}" for key, value in more.items())
        config.write_text(config.read_text().replace("SetEnv ", f"SetEnv {told} "))
        sshd.start()
        return sshd

    def _bystanders(self):
        """What is none of towline's: it must be there at the end."""
        self.other = subprocess.Popen(["sleep", "1000"], env={"HOME": str(self.far_disk.path)})
        self.others_files = [
            self.person.project / "runs" / "mine.txt",
            self.root / "u" / "mine.txt",
        ]
        if self.sshd:
            self.others_files += [
                self.sshd.home / "mine.txt",
                self.sshd.home / "towline" / "mine.txt",
            ]
        for path in self.others_files:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_text("mine")

    # -- the story --------------------------------------------------------------------------------

    def say(self, text):
        self.story.append(f"{time.monotonic() - self.began:6.2f}  {text}")

    # -- processes --------------------------------------------------------------------------------

    def processes(self):
        """All living processes of the namespace but ours."""
        ours = {1, os.getpid(), os.getppid(), self.other.pid}
        if self.sshd and self.sshd.process:
            ours.add(self.sshd.process.pid)
        found = []
        for process in psutil.process_iter(["cmdline", "environ", "name"]):
            with contextlib.suppress(psutil.Error):
                if process.pid not in ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def onboard(self, verb):
        """Processes of towline's program on the instance that run, or came from, a verb."""
        found = []
        for process in self.processes():
            argv = process.info["cmdline"] or []
            if argv[-1:] == [verb] and "onboard.pyz" in " ".join(argv):
                found.append(process)
        return found

    def instance(self):
        """Every process on the instances, and the connections they are served by."""
        drivers = {one.pid for person in self.people for one in person.drivers()}
        typed = {one.process.pid for person in self.people for one in person.commands}
        found = []
        for process in self.processes():
            environ = process.info["environ"] or {}
            far = "TOWLINE_RUN_ID" in environ or "TOWLINE_INSTANCE" in environ
            serving = process.info["name"].startswith("sshd")
            if (far or serving) and process.pid not in drivers | typed:
                found.append(process)
        return found

    def connections(self):
        """Processes that serve a connection; at `local` there are none."""
        return [one for one in self.processes() if one.info["name"].startswith("sshd")]

    def run_folders(self):
        """Folders of runs on the instance."""
        if self.sshd:
            homes = [self.sshd.home]
        else:
            homes = [
                p / "home" for person in self.people for p in (person.home / "local").glob("[!.]*")
            ]
        return [one for home in homes for one in (home / "towline").glob("[!.]*") if one.is_dir()]

    def instances(self, person=None):
        """What is rented: folders of instances at `local`, of runs at `ssh`."""
        if self.sshd:
            notes = (person or self.person).home / "ssh"
            mine = {path.stem.removeprefix("towline-") for path in notes.glob("*.json")}
            return [one for one in self.run_folders() if person is None or one.name in mine]
        folders = [person] if person else self.people
        return [one for p in folders for one in (p.home / "local").glob("towline-*")]

    @contextlib.contextmanager
    def no_more_processes(self, processes):
        """These can start no other, nor a thread: a cgroup that is full."""
        group = PIDS / f"{self.root.name}-{time.monotonic_ns()}"
        group.mkdir()
        for process in processes:
            with contextlib.suppress(OSError):
                (group / "cgroup.procs").write_text(str(process.pid))
        (group / "pids.max").write_text((group / "pids.current").read_text())
        try:
            yield
        finally:
            (group / "pids.max").write_text("max")

    # -- the end ----------------------------------------------------------------------------------

    def touched(self):
        """What of others is not as it was."""
        found = [str(path) for path in self.others_files if not path.exists()]
        return found + ([] if self.other.poll() is None else ["another's process was ended"])

    def left(self):
        """Everything that is there and should not be, once all runs have ended."""
        found = [
            f"process {p.pid}: {' '.join(p.info['cmdline'] or [])[:200]}" for p in self.processes()
        ]
        found += [f"instance {one}" for one in self.instances()]
        places = [Path("/dev/shm"), *(person.root / "tmp" for person in self.people)]
        files = [one for place in places for one in place.iterdir() if "faketime" not in one.name]
        found += [f"file {one}" for one in files]
        for person in self.people:
            keys = [
                p
                for p in person.home.rglob("*")
                if p.is_file() and b"PRIVATE KEY" in p.read_bytes()
            ]
            found += [f"private key {path}" for path in keys]
            found += [f"file {path}" for path in person.results.glob(".incoming*")]
        return found

    def close(self):
        """End all; the namespaces take the mounts with them."""
        for person in self.people:
            for command in person.commands:
                command.close()
        self.other.kill()
        self.other.wait()
        if self.sshd:
            self.sshd.stop()
        while left := self.processes():
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.02)
        for disk in (self.far_disk, self.home_disk, self.results_disk):
            disk.close()
