"""The startup script that installs a host key, run for real on a folder instead of /etc/ssh."""

import os
import subprocess

import asyncssh
import pytest

from towline.core.instance import Order
from towline.providers.cloud_init import host_key_script
from towline.ssh.client import new_key_pair

PRIVATE, PUBLIC = new_key_pair("host")


class Machine:
    """A folder for /etc/ssh, and the commands of an init system that note how they were called."""

    def __init__(self, root):
        self.etc, self.bin, self.log = root / "etc", root / "bin", root / "log"
        self.etc.mkdir()
        self.bin.mkdir()
        for name in ("rsa", "ed25519"):
            (self.etc / f"ssh_host_{name}_key").write_text("old")
            (self.etc / f"ssh_host_{name}_key.pub").write_text("old")
        (self.etc / "sshd_config").write_text("as it was")

    def command(self, name, exit_status=0, then=""):
        program = self.bin / name
        text = f'#!/bin/sh\necho {name} "$@" >> {self.log}\n{then}\nexit {exit_status}\n'
        program.write_text(text)
        program.chmod(0o755)

    def boot(self, script):
        return subprocess.run(
            ["sh"], input=script.replace("/etc/ssh", str(self.etc)), text=True, check=False,
            capture_output=True, env={"PATH": f"{self.bin}:{os.environ['PATH']}"},
        )  # fmt: skip

    def called(self):
        return self.log.read_text().splitlines()


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    machine.command("systemctl")
    return machine


def order(private=PRIVATE):
    return Order(tag="x", public_key="k", host_key=private, host_public_key=PUBLIC)


def test_the_server_has_the_orders_key_and_no_other(machine):
    machine.command("id", then="echo 0")
    done = machine.boot(host_key_script(order()))
    assert done.returncode == 0, done.stderr
    names = {one.name for one in machine.etc.iterdir()}
    assert names == {"ssh_host_ed25519_key", "ssh_host_ed25519_key.pub", "sshd_config"}
    key = machine.etc / "ssh_host_ed25519_key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert asyncssh.read_private_key(key).export_public_key().decode().strip() == PUBLIC
    assert (machine.etc / "ssh_host_ed25519_key.pub").read_text().strip() == PUBLIC


def test_the_server_is_restarted_after_the_key_is_there(machine):
    machine.command("id", then="echo 0")
    machine.command("systemctl", then=f"cat {machine.etc}/ssh_host_ed25519_key >> {machine.log}")
    machine.boot(host_key_script(order()))
    assert machine.called()[1:] == ["systemctl restart ssh", *PRIVATE.splitlines()]


def test_a_server_that_is_called_sshd_is_restarted_too(machine):
    machine.command("id", then="echo 0")
    machine.command("systemctl", exit_status=5)
    machine.command("service")
    assert machine.boot(host_key_script(order())).returncode == 0
    tried = ["systemctl restart ssh", "systemctl restart sshd", "service ssh restart"]
    assert machine.called()[1:] == tried


def test_a_user_who_is_not_root_takes_sudo(machine):
    machine.command("id", then="echo 1000")
    machine.command("sudo", then='shift; "$@"; exit')
    assert machine.boot(host_key_script(order())).returncode == 0
    assert "sudo -n sh -eu" in machine.called()
    assert (machine.etc / "ssh_host_ed25519_key").read_text().strip() == PRIVATE.strip()


def test_no_text_breaks_out_of_the_script(machine):
    machine.command("id", then="echo 0")
    evil = f"$(touch {machine.log}.evil)`touch {machine.log}.evil`'\nEND\ntouch {machine.log}.evil"
    assert machine.boot(host_key_script(order(evil))).returncode == 0
    assert (machine.etc / "ssh_host_ed25519_key").read_text() == evil + "\n"
    assert not machine.log.with_suffix(".evil").exists()
