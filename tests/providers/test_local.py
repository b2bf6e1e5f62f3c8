"""Provider `local`: instances that outlive their maker, end whole, and fail on demand."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from tests.clock import FakeClock
from tests.contracts.provider_suite import fresh_tag, gone, key_pair
from towline import errors
from towline.clock import RealClock
from towline.core.instance import InstanceStatus, Order
from towline.core.task import Resources
from towline.providers.local import LocalProvider
from towline.providers.local_box import MARK, Box, box_of
from towline.providers.local_env import instance_environment
from towline.providers.local_settings import LocalSettings
from towline.ssh.client import SshDialer

PRIVATE, PUBLIC = key_pair()


def order():
    return Order(tag=fresh_tag(), public_key=PUBLIC)


class Here:
    """A TOWLINE_HOME with what a test does in it."""

    def __init__(self, home):
        self.home = home
        self.base = home / "local"

    def provider(self, clock=None, **settings):
        return LocalProvider(self.home, settings, clock or RealClock())

    async def rent(self, provider=None, kind=0):
        provider = provider or self.provider()
        offer = (await provider.offers(Resources()))[kind]
        return await provider.create(offer, order())

    async def login(self, instance):
        dialer = SshDialer()
        deadline = time.monotonic() + 10
        while not (await dialer.probe(instance.address, 2)).text:
            assert time.monotonic() < deadline, self.box(instance).log.read_text()
            await asyncio.sleep(0.02)
        return await dialer.dial(instance.address, PRIVATE, 10)

    async def sh(self, remote, script, stdin=b""):
        done = await remote.run(["sh", "-c", script], stdin)
        assert done.exit_status == 0, done
        return done.stdout.decode().strip()

    def box(self, instance):
        return Box(self.base / instance.id)

    def python(self, code):
        """Run code in a process of its own session; returns the finished process."""
        prelude = f"""
            import asyncio, os, signal, sys
            from pathlib import Path
            from towline.clock import RealClock
            from towline.core.instance import Order
            from towline.core.task import Resources
            from towline.providers import local, local_box, local_make
            provider = local.LocalProvider(Path({str(self.home)!r}), {{}}, RealClock())
            def die(*_args, **_more):
                os.kill(0, signal.SIGKILL)  # the whole process group
        """
        text = textwrap.dedent(prelude) + textwrap.dedent(code)
        argv = [sys.executable, "-c", text]
        return subprocess.run(
            argv, start_new_session=True, capture_output=True, check=False, timeout=30
        )


CREATE = f"""
    async def create():
        offer = (await provider.offers(Resources()))[0]
        print((await provider.create(offer, Order(tag={{tag!r}}, public_key={PUBLIC!r}))).id, flush=True)
    asyncio.run(create())
"""


@pytest.fixture
def here():
    home = Path(tempfile.mkdtemp(prefix="tl-"))
    try:
        yield Here(home)
    finally:
        for folder in (home / "local").glob("towline-*"):
            Box(folder).end()
        shutil.rmtree(home)


def marked(instance_id):
    """Pids of living processes that carry the instance's mark."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == instance_id:
                found.add(process.pid)
    return found


def lives(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(fact, within_s=5.0):
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


# -- from create to SSH --------------------------------------------------------------------------


def test_it_is_building_before_it_is_active(here):
    async def scenario():
        clock = FakeClock()
        provider = here.provider(clock, boot_s=30)
        made = await here.rent(provider)
        assert made.status is InstanceStatus.BUILDING
        assert made.address is None
        clock.advance(29.9)
        assert (await provider.get(made.id)).status is InstanceStatus.BUILDING
        clock.advance(0.2)
        active = await provider.get(made.id)
        assert active.status is InstanceStatus.ACTIVE
        assert active.address.host == "127.0.0.1"

    asyncio.run(scenario())


def test_the_port_is_reserved_and_refuses_until_ssh_is_up(here):
    async def scenario():
        began = time.monotonic()
        made = await here.rent(here.provider(ssh_delay_s=0.8))
        assert made.status is InstanceStatus.ACTIVE
        where = ("127.0.0.1", made.address.port)
        while time.monotonic() - began < 0.6:
            with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
                probe.connect(where)
            with socket.socket() as thief:
                thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with pytest.raises(OSError, match="in use"):
                    thief.bind(where)
            await asyncio.sleep(0.05)
        remote = await here.login(made)
        assert 0.75 <= time.monotonic() - began < 5
        await remote.close()

    asyncio.run(scenario())


def test_offers_come_from_the_settings(here):
    provider = here.provider(
        price_usd_per_hour=2, offers=[{"type": "a"}, {"type": "b", "price_usd_per_hour": 0.5}]
    )
    offers = asyncio.run(provider.offers(Resources()))
    assert [(offer.type, offer.price_usd_per_h) for offer in offers] == [("a", 2.0), ("b", 0.5)]
    made = asyncio.run(here.rent(provider, kind=1))
    assert (made.type, made.price_usd_per_h) == ("b", 0.5)


def test_another_system_gets_a_plain_sentence(here, monkeypatch):
    offer = asyncio.run(here.provider().offers(Resources()))[0]
    monkeypatch.setattr("towline.providers.local.sys.platform", "win32")
    with pytest.raises(errors.SpecError, match="Linux or macOS"):
        asyncio.run(here.provider().create(offer, order()))


def test_a_folder_that_can_not_be_written_is_a_refusal(here):
    here.base.write_text("in the way")
    with pytest.raises(errors.ProviderError) as caught:
        asyncio.run(here.rent())
    assert type(caught.value) is errors.ProviderError
    here.base.unlink()


# -- who outlives whom ---------------------------------------------------------------------------


def test_an_instance_outlives_the_kill_of_its_makers_process_group(here):
    async def scenario():
        tag = fresh_tag()
        ran = here.python(textwrap.dedent(CREATE.format(tag=tag)) + "die()\n")
        assert ran.returncode == -signal.SIGKILL, ran.stderr
        (made,) = await here.provider().list_tagged()
        assert (made.id, made.tag) == (ran.stdout.decode().strip(), tag)
        remote = await here.login(made)
        assert await here.sh(remote, "echo alive") == "alive"
        await remote.close()

    asyncio.run(scenario())


def test_a_maker_killed_before_the_start_leaves_a_dead_instance_with_its_tag(here):
    async def scenario():
        tag = fresh_tag()
        ran = here.python("local.launch = die\n" + textwrap.dedent(CREATE.format(tag=tag)))
        assert ran.returncode == -signal.SIGKILL, ran.stderr
        (made,) = await here.provider().list_tagged()
        assert (made.tag, made.status) == (tag, InstanceStatus.DEAD)
        assert made.detail
        await gone(here.provider(), made.id)
        assert list(here.base.iterdir()) == []

    asyncio.run(scenario())


def test_a_maker_killed_while_it_prepares_leaves_no_instance(here):
    async def scenario():
        ran = here.python(
            "local_make.write_state = die\n" + textwrap.dedent(CREATE.format(tag=fresh_tag()))
        )
        assert ran.returncode == -signal.SIGKILL, ran.stderr
        assert await here.provider().list_tagged() == []
        (draft,) = here.base.iterdir()
        long_ago = time.time() - 3600
        os.utime(draft, (long_ago, long_ago))
        made = await here.rent()
        assert [entry.name for entry in here.base.iterdir()] == [made.id]

    asyncio.run(scenario())


def test_an_instance_whose_server_was_killed_is_dead_and_can_be_ended(here):
    async def scenario():
        made = await here.rent()
        await (await here.login(made)).close()
        for pid in marked(made.id):
            os.kill(pid, signal.SIGKILL)
        provider = here.provider()
        await until(lambda: not here.box(made).server_lives())
        dead = await provider.get(made.id)
        assert (dead.status, dead.address) == (InstanceStatus.DEAD, None)
        assert "restarted" in dead.detail
        await gone(provider, made.id)

    asyncio.run(scenario())


def test_a_server_whose_folder_was_removed_by_hand_ends_by_itself(here):
    async def scenario():
        made = await here.rent()
        remote = await here.login(made)
        await here.sh(remote, "setsid nohup sleep 60 >/dev/null 2>&1 &")
        shutil.rmtree(here.base / made.id)
        assert await here.provider().get(made.id) is not None  # it still runs: not gone
        await until(lambda: not marked(made.id))
        assert await here.provider().get(made.id) is None
        await remote.close()

    asyncio.run(scenario())


def test_the_server_goes_on_when_a_client_is_killed(here):
    async def scenario():
        made = await here.rent()
        remote = await here.login(made)
        channel = await remote.open(["sh", "-c", "echo $$; exec cat /dev/zero"])
        pid = int((await channel.read(100)).split(b"\n")[0])
        await remote.close()
        await until(lambda: not lives(pid))  # it found its output closed
        remote = await here.login(made)
        assert await here.sh(remote, "echo alive") == "alive"
        await remote.close()

    asyncio.run(scenario())


# -- the end -------------------------------------------------------------------------------------

TREE = """
    nohup setsid sleep 61 >/dev/null 2>&1 &
    setsid sh -c 'trap "" TERM HUP INT; env -i sleep 62; true' >/dev/null 2>&1 </dev/null &
    (sleep 63 >/dev/null 2>&1 </dev/null &)
    mkdir -p closed/folder; touch closed/folder/file; chmod 500 closed/folder closed
"""


@pytest.mark.parametrize("tmux", [False, True], ids=["daemons", "tmux"])
def test_the_end_takes_every_process_and_file(here, tmux):
    if tmux and shutil.which("tmux") is None:
        pytest.skip("needs tmux")

    async def scenario():
        made = await here.rent()
        remote = await here.login(made)
        await here.sh(remote, TREE)
        if tmux:
            await here.sh(remote, "tmux new-session -d -s x 'sleep 64' && tmux has-session -t x")
        box = here.box(made)
        pids = {process.pid for process in box.processes()}
        lines = {" ".join(psutil.Process(pid).cmdline()) for pid in pids}
        wanted = {"sleep 61", "sleep 62", "sleep 63"} | ({"sleep 64"} if tmux else set())
        assert wanted <= lines
        await remote.close()
        await gone(here.provider(), made.id)
        assert not [pid for pid in pids if lives(pid)]
        assert list(here.base.iterdir()) == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "moment",
    [
        "local_box.Box.pull_plug = die",  # asked, nothing ended
        "local_box.Box._remove = die",  # all ended, nothing removed
        "local_box.remove_tree = die",
        "once = local_box.remove_tree; local_box.remove_tree = lambda p: (once(p), die())",
        "Path.rmdir = os.rmdir = die",
    ],
)
def test_an_end_that_was_cut_short_is_finished_by_the_next(here, moment):
    async def scenario():
        made = await here.rent()
        remote = await here.login(made)
        await here.sh(remote, "setsid nohup sleep 60 >/dev/null 2>&1 &")
        await remote.close()
        code = f"{moment}\nlocal_box.Box(provider._base / {made.id!r}).end()"
        ran = here.python(code)
        assert ran.returncode == -signal.SIGKILL, ran.stderr
        provider = here.provider()
        (left,) = await provider.list_tagged()
        assert (left.id, left.tag) == (made.id, made.tag)
        assert left.status is InstanceStatus.TERMINATING
        await gone(provider, made.id)
        assert not marked(made.id)
        assert list(here.base.iterdir()) == []

    asyncio.run(scenario())


def test_two_may_end_it_at_once(here):
    async def scenario():
        made = await here.rent()
        await (await here.login(made)).close()
        await asyncio.gather(*(here.provider().terminate(made.id) for _ in range(4)))
        assert await here.provider().get(made.id) is None

    asyncio.run(scenario())


def test_it_can_end_itself_from_within(here):
    async def scenario():
        made = await here.rent()
        remote = await here.login(made)
        (command,) = here.provider().features.end_self_argv
        await remote.run(["sh", "-c", f"setsid nohup {command} >/dev/null 2>&1 &"])
        provider = here.provider()
        deadline = time.monotonic() + 10
        while await provider.get(made.id) is not None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert not marked(made.id)
        await remote.close()

    asyncio.run(scenario())


def test_a_full_disk_does_not_stop_the_end(here, monkeypatch):
    async def scenario():
        made = await here.rent()

        def full(*_args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("towline.providers.local_box.write_state", full)
        await gone(here.provider(), made.id)
        assert not marked(made.id)

    asyncio.run(scenario())


def test_what_can_not_be_removed_is_said(here, monkeypatch):
    async def scenario():
        made = await here.rent()

        def busy(_path):
            raise OSError(16, "Device or resource busy")

        monkeypatch.setattr("towline.providers.local_box.remove_tree", busy)
        with pytest.raises(errors.ProviderUnavailable, match="busy"):
            await here.provider().terminate(made.id)
        monkeypatch.undo()
        await gone(here.provider(), made.id)

    asyncio.run(scenario())


def test_a_long_path_gets_short_sockets_which_go_with_it(here):
    async def scenario():
        deep = here.home / ("d" * 90)
        provider = LocalProvider(deep, {}, RealClock())
        try:
            made = await here.rent(provider)
            remote = await here.login(made)
            runtime = Path(await here.sh(remote, "touch $TMPDIR/x; echo $TMUX_TMPDIR"))
            assert len(str(runtime)) < 60
            assert (runtime / "x").exists()
            assert runtime.stat().st_mode & 0o777 == 0o700
            await remote.close()
            await gone(provider, made.id)
            assert not runtime.exists()
        finally:
            for folder in (deep / "local").glob("towline-*"):
                Box(folder).end()

    asyncio.run(scenario())


def test_a_damaged_state_can_still_be_listed_and_ended(here):
    async def scenario():
        made = await here.rent()
        here.box(made).state_file.write_text("{")
        (found,) = await here.provider().list_tagged()
        assert (found.id, found.tag) == (made.id, made.tag)
        await gone(here.provider(), made.id)
        assert not marked(made.id)

    asyncio.run(scenario())


# -- what runs there -----------------------------------------------------------------------------


def test_commands_run_in_the_instances_own_home_and_environment(here, monkeypatch):
    async def scenario():
        monkeypatch.setenv("LAMBDA_API_KEY", "canary-1")
        monkeypatch.setenv("PIP_INDEX_URL", "https://ann:canary-2@example.org/simple")
        monkeypatch.setenv("UV_PUBLISH_TOKEN", "canary-3")
        made = await here.rent()
        remote = await here.login(made)
        home = here.box(made).home
        assert await here.sh(remote, "pwd; echo $HOME") == f"{home}\n{home}"
        env = await here.sh(remote, "env; cat /proc/$PPID/environ /proc/*/environ | tr '\\0' '\\n'"
                                    f" | grep -a {made.id} -B99 -A99 || true")  # fmt: skip
        assert f"{MARK}={made.id}" in env
        for process in here.box(made).processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                assert "canary" not in str(process.environ())
        where = await here.sh(
            remote, "command -v python3; python3 -c 'import sys; print(sys.prefix)'"
        )
        assert where == f"{here.box(made).bin}/python3\n{sys.base_prefix}"
        await here.sh(remote, "python3 -m venv --without-pip v && v/bin/python -c 'import ssl'")
        await remote.close()

    asyncio.run(scenario())


def test_a_commands_end_is_told_as_it_was(here):
    async def scenario():
        made = await here.rent()
        remote = await here.login(made)
        assert (await remote.run(["sh", "-c", "exit 7"])).exit_status == 7
        # exec, so that the signal ends the process that the server itself started
        assert (await remote.run(["exec", "sh", "-c", "kill -9 $$"])).exit_status != 0
        assert (await remote.run(["no-such-command"])).exit_status == 127
        done = await remote.run(["sh", "-c", "echo out; echo err >&2"])
        assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
        await remote.close()

    asyncio.run(scenario())


def test_no_byte_of_output_or_input_is_lost(here):
    async def scenario():
        made = await here.rent()
        remote = await here.login(made)
        for size in (0, 1, 65536, 1 << 20, 3_000_001):
            data = os.urandom(size)
            done = await remote.run(["sh", "-c", "exec 2>&-; cat"], data)
            assert done.stdout == data
            # outputs closed early: the input goes on
            await remote.run(["sh", "-c", "exec >&- 2>&-; cat > f"], data)
            assert (here.box(made).home / "f").read_bytes() == data
            # input not wanted: the command goes on
            assert await here.sh(remote, "exec <&-; sleep 0.05; echo on", data) == "on"
        await remote.close()

    asyncio.run(scenario())


def test_signals_reach_what_runs_there_as_on_any_machine(here):
    async def scenario():
        made = await here.rent()
        remote = await here.login(made)
        ignored = await here.sh(remote, "grep SigIgn /proc/self/status || echo SigIgn: 0")
        # the standard signals; what lies above is the C library's own business
        standard = int(ignored.split()[1], 16) & 0x7FFFFFFF
        assert standard & ~(1 << (signal.SIGPIPE - 1)) == 0
        assert await here.sh(remote, "umask") == "0022"
        await remote.close()

    asyncio.run(scenario())


OPENSSH = ("-F", "none", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes")


@pytest.fixture
def openssh(here):
    """A made instance and what OpenSSH's own clients need to reach it."""
    if shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH's client")
    made = asyncio.run(here.rent())
    asyncio.run(_once_up(here, made))
    key, known = here.home / "id", here.home / "known"
    key.write_text(PRIVATE)
    key.chmod(0o600)
    known.write_text(f"[127.0.0.1]:{made.address.port} {made.address.host_key}\n")
    options = [*OPENSSH, "-i", str(key), "-o", f"UserKnownHostsFile={known}"]
    return made, [*options, "-o", f"Port={made.address.port}"]


async def _once_up(here, made):
    await (await here.login(made)).close()


def test_a_terminal_is_a_real_one(here, openssh):
    made, options = openssh
    ssh = ["ssh", *options, "-tt", f"{made.address.user}@127.0.0.1"]
    script = "tty; test -t 0 && test -t 1 && stty size && exec 3</dev/tty && echo controls; exit 5"
    ran = subprocess.run(
        [*ssh, script], capture_output=True, check=False, timeout=20, stdin=subprocess.PIPE
    )
    assert ran.returncode == 5, ran
    lines = ran.stdout.decode().split("\r\n")
    assert lines[0].startswith("/dev/")
    assert len(lines[1].split()) == 2
    assert lines[2] == "controls"
    ran = subprocess.run(
        ssh, input=b"echo $((40 + 2)); exit 6\n", capture_output=True, check=False, timeout=20
    )
    assert ran.returncode == 6, ran
    assert b"\r42\r\n" in ran.stdout.replace(b"\n42", b"\r42")


def test_a_closed_terminal_ends_what_ran_on_it(here, openssh):
    made, options = openssh
    ssh = ["ssh", *options, "-tt", f"{made.address.user}@127.0.0.1", "echo $$; exec sleep 60"]
    with subprocess.Popen(ssh, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        pid = int(client.stdout.readline())
        assert lives(pid)
        client.kill()
    asyncio.run(until(lambda: not lives(pid)))


@pytest.mark.parametrize("flags", [[], ["-O"]], ids=["sftp", "scp1"])
def test_openssh_copies_files_both_ways(here, openssh, flags):
    if shutil.which("scp") is None:
        pytest.skip("needs OpenSSH's client")
    made, options = openssh
    data = os.urandom(2_000_000)
    (here.home / "sent").write_bytes(data)
    scp = ["scp", "-q", *flags, *options]
    far = f"{made.address.user}@127.0.0.1:got"
    for pair in ([str(here.home / "sent"), far], [far, str(here.home / "back")]):
        ran = subprocess.run([*scp, *pair], capture_output=True, check=False, timeout=20)
        assert ran.returncode == 0, ran
    assert (here.box(made).home / "got").read_bytes() == data
    assert (here.home / "back").read_bytes() == data


def test_only_the_instances_user_with_its_key_gets_in(here, openssh):
    made, options = openssh
    stranger = here.home / "stranger"
    stranger.write_text(key_pair()[0])
    stranger.chmod(0o600)
    other_key = [str(stranger) if word == str(here.home / "id") else word for word in options]
    for user, opts in (("root", options), ("x", options), (made.address.user, other_key)):
        ssh = ["ssh", "-o", "BatchMode=yes", *opts, f"{user}@127.0.0.1", "true"]
        ran = subprocess.run(ssh, capture_output=True, check=False, timeout=20)
        assert ran.returncode == 255
        assert b"Permission denied" in ran.stderr


# -- the environment -----------------------------------------------------------------------------


def environment(tmp_path, **caller):
    return instance_environment(
        caller, home=tmp_path / "home", bin_folder=tmp_path / "bin", runtime=tmp_path / "run"
    )


def test_what_passes_is_listed_and_no_secret_does(tmp_path):
    passes = {"LANG": "C", "LC_ALL": "C", "PIP_FIND_LINKS": "/w", "UV_INDEX": "https://x/s",
              "SSL_CERT_FILE": "/c", "https_proxy": "http://p:3128", "NO_PROXY": "x"}  # fmt: skip
    stays = {"AWS_SECRET_ACCESS_KEY": "x", "HF_TOKEN": "x", "PYTHONPATH": "/x", "VIRTUAL_ENV": "/v",
             "LD_PRELOAD": "x", "UV_INDEX_X_PASSWORD": "x", "UV_PUBLISH_TOKEN": "x",
             "PIP_EXTRA_INDEX_URL": "https://__token__:pw@x/s", "PIP_INDEX_URL": "https://tok@x/s",
             "HTTPS_PROXY": "http://u:pw@p:3128", "TOWLINE_HOME": "/x", "SSH_AUTH_SOCK": "/a"}  # fmt: skip
    env = environment(tmp_path, **passes, **stays)
    assert passes.items() <= env.items()
    assert not set(stays) & set(env)


def test_the_path_begins_with_the_instances_own_and_has_no_virtual_environment(tmp_path):
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").touch()
    env = environment(tmp_path, PATH=f"{venv}/bin:/usr/bin:relative::/usr/bin:/bin")
    assert env["PATH"] == f"{tmp_path}/bin:/usr/bin:/bin"


def test_the_callers_package_caches_and_settings_serve_the_instance(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    (tmp_path / ".config" / "pip" / "pip.conf").touch()
    env = environment(tmp_path, XDG_CACHE_HOME="/cache")
    assert (env["PIP_CACHE_DIR"], env["UV_CACHE_DIR"]) == ("/cache/pip", "/cache/uv")
    assert env["PIP_CONFIG_FILE"] == f"{tmp_path}/.config/pip/pip.conf"
    assert "UV_CONFIG_FILE" not in env
    own = environment(tmp_path, PIP_CACHE_DIR="/mine", PIP_CONFIG_FILE="/my.conf")
    assert (own["PIP_CACHE_DIR"], own["PIP_CONFIG_FILE"]) == ("/mine", "/my.conf")


# -- settings and faults -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"boot": 3}, "did you mean 'boot_s'?"),
        ({"faults": {"creat": "quota"}}, "did you mean 'create'?"),
        ({"faults": {"create": "no_capasity"}}, "did you mean 'no_capacity'?"),
        ({"faults": {"ssh": "silent_x"}}, "did you mean 'silent'?"),
        ({"faults": {"get": None}}, "unavailable"),
        ({"faults": ["quota"]}, "must be a mapping"),
        ({"boot_s": -1}, "must be a number from 0 up"),
        ({"boot_s": "3"}, "must be a number from 0 up"),
        ({"boot_s": True}, "must be a number from 0 up"),
        ({"ssh_delay_s": float("nan")}, "must be a number from 0 up"),
        ({"price_usd_per_hour": float("inf")}, "must be a number from 0 up"),
        ({"offers": []}, "must be a list"),
        ({"offers": ["a"]}, "must be a mapping"),
        ({"offers": [{}]}, "needs a `type`"),
        ({"offers": [{"type": "a", "price": 1}]}, "did you mean 'price_usd_per_hour'?"),
    ],
)
def test_settings_that_mean_nothing_are_refused(here, settings, says):
    with pytest.raises(errors.SpecError) as caught:
        here.provider(**settings)
    assert says in f"{caught.value.message} {caught.value.hint}"
    assert "providers.local" in caught.value.message


def test_a_counted_fault_strikes_that_often():
    faults = LocalSettings.parse({"faults": {"get": "unavailable_2", "boot": "never"}}).faults
    assert [faults.strike("get") for _ in range(4)] == ["unavailable", "unavailable", None, None]
    assert [faults.strike("boot") for _ in range(3)] == ["never"] * 3
    assert faults.strike("terminate") is None


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("no_capacity", errors.NoCapacity),
        ("quota", errors.QuotaExceeded),
        ("refuse", errors.ProviderError),
    ],
)
def test_a_refused_create_makes_nothing(here, fault, error):
    provider = here.provider(faults={"create": f"{fault}_1"})
    with pytest.raises(error) as caught:
        asyncio.run(here.rent(provider))
    assert type(caught.value) is error
    assert asyncio.run(provider.list_tagged()) == []
    assert asyncio.run(here.rent(provider)).status is InstanceStatus.ACTIVE


def test_a_lost_answer_leaves_an_instance_to_be_found(here):
    provider = here.provider(faults={"create": "lost_reply"})
    with pytest.raises(errors.ProviderUnavailable):
        asyncio.run(here.rent(provider))
    assert len(asyncio.run(here.provider().list_tagged())) == 1
    assert provider.features.settle_s == 0


def test_a_late_instance_shows_within_the_settling_time(here):
    clock = FakeClock()
    provider = here.provider(clock, faults={"create": "late"})
    with pytest.raises(errors.ProviderUnavailable):
        asyncio.run(here.rent(provider))
    assert asyncio.run(provider.list_tagged()) == []
    clock.advance(2.1)
    assert len(asyncio.run(provider.list_tagged())) == 1
    assert provider.features.settle_s > 2.1


def test_a_boot_that_never_ends(here):
    async def scenario():
        clock = FakeClock()
        provider = here.provider(clock, boot_s=1, faults={"boot": "never"})
        made = await here.rent(provider)
        clock.advance(3600)
        assert (await provider.get(made.id)).status is InstanceStatus.BUILDING
        await gone(provider, made.id)

    asyncio.run(scenario())


def test_a_boot_that_dies(here):
    async def scenario():
        provider = here.provider(boot_s=0.5, faults={"boot": "dies"})
        made = await here.rent(provider)
        assert made.status is InstanceStatus.BUILDING
        await until(lambda: not here.box(made).server_lives())
        assert (await provider.get(made.id)).status is InstanceStatus.DEAD
        await gone(provider, made.id)

    asyncio.run(scenario())


def test_ssh_that_accepts_and_says_nothing_or_hangs_up(here):
    async def scenario(fault):
        made = await here.rent(here.provider(faults={"ssh": fault}))
        dialer = SshDialer()
        banner = await dialer.probe(made.address, 0.5)
        while not banner.accepts:
            await asyncio.sleep(0.02)
            banner = await dialer.probe(made.address, 0.5)
        assert banner.text == ""
        with pytest.raises(errors.ConnectionLost):
            await dialer.dial(made.address, PRIVATE, 0.5)
        await gone(here.provider(), made.id)

    asyncio.run(scenario("silent"))
    asyncio.run(scenario("drop"))


def test_ssh_that_lets_no_key_in(here):
    async def scenario():
        made = await here.rent(here.provider(faults={"ssh": "refuse_login"}))
        with pytest.raises(errors.RemoteAuthError):
            await here.login(made)

    asyncio.run(scenario())


def test_an_api_that_does_not_answer_for_a_while(here):
    async def scenario():
        made = await here.rent()
        faults = {"get": "unavailable_2", "list": "unavailable_1", "terminate": "unavailable_1"}
        provider = here.provider(faults=faults)
        for _ in range(2):
            with pytest.raises(errors.ProviderUnavailable):
                await provider.get(made.id)
        with pytest.raises(errors.ProviderUnavailable):
            await provider.list_tagged()
        with pytest.raises(errors.ProviderUnavailable):
            await provider.terminate(made.id)
        assert await provider.get(made.id) == made
        await gone(provider, made.id)

    asyncio.run(scenario())


def test_an_end_that_is_accepted_and_never_comes(here):
    async def scenario():
        made = await here.rent()
        stuck = here.provider(faults={"terminate": "stuck"})
        for _ in range(2):
            await stuck.terminate(made.id)
            assert (await stuck.get(made.id)).status is InstanceStatus.TERMINATING
        assert marked(made.id)
        await gone(here.provider(), made.id)

    asyncio.run(scenario())


def test_an_id_is_only_what_create_gives(tmp_path):
    assert box_of(tmp_path, "towline-abc-123456") is None
    assert box_of(tmp_path, f"{fresh_tag()}-12345") is None
    assert box_of(tmp_path, f"{fresh_tag()}-123456") is not None
