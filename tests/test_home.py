"""Promise 4: what towline writes on this machine is the user's alone."""

import os
import stat
from pathlib import Path

import pytest

from towline import disk, errors
from towline.core.instance import run_id_from
from towline.disk import writing
from towline.home import Home, RunFiles, load_config, open_private, write_private

RUN = run_id_from(b"abcdefgh")


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_towline_home_decides(monkeypatch, tmp_path):
    monkeypatch.setenv("TOWLINE_HOME", str(tmp_path / "h"))
    assert Home.default().path == tmp_path / "h"
    assert Home.default().database == tmp_path / "h" / "towline.db"


def test_a_relative_or_tilde_home_becomes_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOWLINE_HOME", "here")
    assert Home.default().path == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TOWLINE_HOME", "~/there")
    assert Home.default().path == tmp_path / "there"


def test_without_it_the_platforms_data_folder_is_used(monkeypatch):
    monkeypatch.delenv("TOWLINE_HOME", raising=False)
    assert Home.default().path.name == "towline"
    assert Home.default().path.is_absolute()


def test_folders_are_closed_to_others(tmp_path, open_umask):
    home = Home(tmp_path / "a" / "h")
    home.prepare()
    home.prepare()
    files = home.run_files(RUN)
    assert mode(home.path) == mode(files.folder) == mode(files.folder.parent) == 0o700


def test_an_open_folder_is_closed(tmp_path):
    (tmp_path / "h").mkdir(mode=0o755)
    Home(tmp_path / "h").prepare()
    assert mode(tmp_path / "h") == 0o700


def test_a_home_that_cannot_be_made_says_what_to_set(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.SpecError) as caught:
        Home(tmp_path / "file" / "h").prepare()
    assert "TOWLINE_HOME" in caught.value.hint


def test_every_file_of_a_run_lies_in_its_folder(tmp_path):
    files = Home(tmp_path).run_files(RUN)
    named = [files.private_key, files.log, files.log_times, files.equip_log, files.entered]
    named.append(files.driver_log)
    assert len(set(named)) == len(named)
    assert all(path.parent == files.folder == tmp_path / "runs" / RUN for path in named)


def test_a_private_file_is_whole_and_private(tmp_path, open_umask):
    path = tmp_path / "key"
    write_private(path, b"one")
    write_private(path, b"two" * 1000)
    assert path.read_bytes() == b"two" * 1000
    assert mode(path) == 0o600
    assert os.listdir(tmp_path) == ["key"]


def test_a_private_file_is_private_even_after_a_crash_left_an_open_one(tmp_path, open_umask):
    path = tmp_path / "key"
    (tmp_path / "key.new").write_bytes(b"left by a crash")
    path.write_bytes(b"open to all")
    write_private(path, b"secret")
    assert mode(path) == 0o600


MOUNTS = """\
27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 27 0:30 / {0} rw - {1} {2} rw
41 27 0:31 / {0}/my\\040disk rw shared:7 master:1 - ext4 /dev/sdb1 rw
"""


@pytest.fixture
def mounted(monkeypatch, tmp_path):
    """Lets this folder be the place of a mount of that kind."""

    def mount(kind, at=None):
        text = MOUNTS.format(at or tmp_path, kind, "server:/home")
        (tmp_path / "mountinfo").write_text(text)
        monkeypatch.setattr(disk, "_MOUNTS", tmp_path / "mountinfo")
        monkeypatch.setattr(disk.sys, "platform", "linux")

    return mount


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "lustre"]
)
def test_a_home_on_a_network_filesystem_is_refused(mounted, tmp_path, kind):
    mounted(kind)
    with pytest.raises(errors.SpecError, match=rf"network filesystem \({kind}\)") as caught:
        Home(tmp_path / "h").prepare()
    assert "TOWLINE_HOME" in caught.value.hint
    assert "move the whole folder" in caught.value.hint


@pytest.mark.parametrize("kind", ["ext4", "btrfs", "fuse.gocryptfs", "fuseblk", "overlay", "tmpfs"])
def test_a_home_on_a_disk_of_this_machine_is_not(mounted, tmp_path, kind):
    mounted(kind)
    Home(tmp_path / "h").prepare()


def test_a_disk_inside_a_network_filesystem_is_this_machines(mounted, tmp_path):
    mounted("nfs4")
    Home(tmp_path / "my disk" / "h").prepare()


def test_a_link_to_a_network_filesystem_is_followed(mounted, tmp_path):
    (tmp_path / "far").mkdir()
    mounted("nfs4", at=tmp_path / "far")
    (tmp_path / "near").symlink_to(tmp_path / "far")
    with pytest.raises(errors.SpecError, match="network"):
        Home(tmp_path / "near").prepare()
    Home(tmp_path / "farther").prepare()


def test_a_sandbox_whose_whole_disk_is_passed_in_is_no_network(mounted, tmp_path):
    mounted("9p", at="/")
    Home(tmp_path / "h").prepare()


@pytest.mark.parametrize("write", [write_private, lambda path, _: open_private(path, "ab")])
def test_a_file_that_cannot_be_written_now_is_named_with_the_reason(tmp_path, write):
    (tmp_path / "gone").touch()
    with pytest.raises(errors.LocalWriteError, match=r"gone/log can't be written: Not a") as caught:
        write(tmp_path / "gone" / "log", b"")
    assert (caught.value.exit_code, caught.value.resumable) == (5, True)
    assert "resume" in caught.value.hint


def test_a_full_disk_is_named_while_a_file_is_written():
    full = Path("/dev/full")  # every write to it finds no room
    with pytest.raises(errors.LocalWriteError, match="No space left on device"), writing(full):
        full.write_bytes(b"x")


def test_a_runs_folder_that_cannot_be_made_can_be_taken_up_later(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(errors.LocalWriteError, match="can't be written"):
        Home(tmp_path).run_files(RUN)


def test_a_runs_key_is_read_where_it_has_one(tmp_path):
    files = RunFiles(tmp_path)
    assert files.read_key() is None  # the user's own machine: the user's own key
    write_private(files.private_key, b"secret key\n")
    write_private(files.private_key.with_suffix(".pub"), b"public key\n")
    assert files.read_key() == "secret key\n"


def test_a_runs_key_that_is_away_for_a_moment_is_no_other_way_in(tmp_path):
    files = RunFiles(tmp_path)
    write_private(files.private_key.with_suffix(".pub"), b"public key\n")
    with pytest.raises(errors.LocalReadError, match="key can't be read: No such file") as caught:
        files.read_key()
    assert (caught.value.exit_code, caught.value.resumable) == (5, True)
    assert "resume" in caught.value.hint


@pytest.fixture
def config(monkeypatch, tmp_path):
    path = tmp_path / "config.yaml"
    monkeypatch.setenv("TOWLINE_CONFIG", str(path))
    return path


def test_the_config_is_read_from_where_it_is_said_to_be(config):
    config.write_text("providers: {lambda: {region: us-west-1}}\n")
    assert load_config() == {"providers": {"lambda": {"region": "us-west-1"}}}


def test_a_config_named_but_missing_is_an_error(config):
    with pytest.raises(errors.SpecError, match="does not exist"):
        load_config()


def test_no_config_is_an_empty_one(monkeypatch, tmp_path):
    monkeypatch.delenv("TOWLINE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_config_path", lambda *a, **k: Path(tmp_path))
    assert load_config() == {}


@pytest.mark.parametrize("text", ["provider: {}\n", "- a\n", "text\n", "providers: {}\nmore: 1\n"])
def test_a_config_of_another_shape_is_refused(config, text):
    config.write_text(text)
    with pytest.raises(errors.SpecError, match="providers"):
        load_config()
