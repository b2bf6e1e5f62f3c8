"""A real container engine for tests: podman with a store of its own, and an image made of this machine.

Nothing is fetched: the image holds busybox and the Python that runs the tests. podman is told, by a
configuration of its own, to ask for no more than a test machine grants.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

IMAGE = "localhost/towline-test:1"
_CONFIG = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""
_SCRIPT = """#!/bin/sh
CONTAINERS_CONF={store}/containers.conf
export CONTAINERS_CONF
exec {podman} --root {store}/root --runroot {store}/run "$@"
"""
_NEEDED = ("podman", "runc", "conmon", "busybox", "ldd")
#: not needed inside, and large
_LEFT_OUT = re.compile(
    r"/(tests?|idlelib|lib2to3|turtledemo|tkinter|config-3[^/]*)/|/site-packages/(?!pip/)|\.a$"
)


class Podman:
    """One store with one image; `close` removes it."""

    def __init__(self, store):
        self.store = store
        self.program = store / "bin" / "podman"
        self.program.parent.mkdir(parents=True)
        self.program.write_text(_SCRIPT.format(store=store, podman=shutil.which("podman")))
        self.program.chmod(0o755)
        (store / "containers.conf").write_text(_CONFIG)

    def call(self, *argv, **options):
        return subprocess.run(
            [self.program, *argv], check=False, capture_output=True, timeout=60, **options
        )

    def make_image(self):
        """Say why it does not work here; None when it does."""
        archive = self.store / "image.tar"
        with tarfile.open(archive, "w") as tar:
            _fill(tar)
        self.call("import", archive, IMAGE)
        archive.unlink()
        done = self.call("run", "--rm", "--network=host", "--ipc=host", IMAGE, "true")
        return done.stderr.decode()[-300:] if done.returncode else None

    def containers(self):
        return self.call("ps", "--all", "--format", "{{.Names}}").stdout.decode().split()

    def close(self):
        self.call("rm", "--force", "--all")
        subprocess.run(
            ["umount", self.store / "root" / "overlay"], check=False, capture_output=True
        )
        shutil.rmtree(self.store)


@functools.cache
def missing():
    """Why there can be no podman here; "" when it is worth a try."""
    lacking = [name for name in _NEEDED if shutil.which(name, path=_path()) is None]
    return f"without {', '.join(lacking)}" if lacking else "" if os.getuid() == 0 else "not root"


def _path():
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/libexec/podman"])


def _fill(tar):
    """Busybox with all its commands, and this Python with its libraries at the same place."""
    for name in ("tmp", "bin", "usr", "usr/bin", "etc", "root"):
        _entry(tar, name, tarfile.DIRTYPE, mode=0o777 if name == "tmp" else 0o755)
    busybox = shutil.which("busybox")
    tar.add(os.path.realpath(busybox), "bin/busybox")
    for name in subprocess.check_output([busybox, "--list"], text=True).split():
        if name != "busybox":
            _entry(tar, f"bin/{name}", tarfile.SYMTYPE, to="busybox")
    python = Path(os.path.realpath(sys.executable))
    library = Path(sysconfig.get_path("stdlib"))
    for path in [python, *library.rglob("*")]:
        if path.is_file() and not _LEFT_OUT.search(str(path)):
            tar.add(path, str(path).lstrip("/"), recursive=False)
    _entry(tar, "usr/bin/python3", tarfile.SYMTYPE, to=str(python))
    binaries = [python, *library.glob("lib-dynload/*.so"), os.path.realpath(busybox)]
    said = subprocess.run(["ldd", *binaries], check=False, capture_output=True, text=True).stdout
    for path in sorted(set(re.findall(r"(/\S+\.so\S*) \(0x", said))):
        tar.add(os.path.realpath(path), path.lstrip("/"))


def _entry(tar, name, kind, *, to="", mode=0o755):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, to, mode
    tar.addfile(info)
