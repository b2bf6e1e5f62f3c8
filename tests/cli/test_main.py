"""The group: help, version, usage errors, and the exit codes' one place."""

import asyncio
import json
import os
import subprocess
import sys

import click
import pytest

from towline.cli import drive, main

HEAVY = ["asyncio", "asyncssh", "httpx", "pydantic", "rich", "sqlite3", "yaml"]


def commands():
    context = click.Context(main.cli)
    return {name: main.cli.get_command(context, name) for name in main.cli.list_commands(context)}


def run(capsys, *arguments):
    code = main.run_command(list(arguments))
    return code, *capsys.readouterr()


def test_help_imports_nothing_heavy():
    program = (
        "import sys; sys.argv = ['towline', '--help']\n"
        "from towline.cli.main import run_command\n"
        "assert run_command(['--help']) == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_lists_every_command_and_no_hidden_one(capsys):
    code, out, _err = run(capsys, "--help")
    assert code == 0
    assert all(f"  {name} " in out for name in commands())
    assert "  drive " not in out


def test_without_arguments_the_help_is_shown(capsys):
    assert run(capsys) == run(capsys, "-h")


@pytest.mark.parametrize("name", commands())
def test_the_help_page_says_what_the_command_says(name):
    listed = {n: entry[1] for group in main._COMMANDS.values() for n, entry in group.items()}
    assert commands()[name].help.split("\n\n")[0].replace("\n", " ") == listed[name]


@pytest.mark.parametrize("name", commands())
def test_every_option_has_a_help_line(name):
    options = [p for p in commands()[name].params if isinstance(p, click.Option)]
    assert all(option.help for option in options)


def test_looking_commands_have_json():
    looking = ["ls", "status", "logs", "events", "receipt", "gc", "doctor", "offers"]
    looking += ["train", "plan", "recipes", "metrics"]
    having = [
        name for name, found in commands().items() if any("--json" in p.opts for p in found.params)
    ]
    assert sorted(having) == sorted(looking)


def test_version(capsys):
    assert run(capsys, "--version") == (0, "towline 0.1.0\n", "")


def test_a_misspelt_command_gets_a_guess_and_2(capsys):
    code, out, err = run(capsys, "trian")
    assert (code, out) == (2, "")
    assert "there is no command 'trian'; did you mean 'train'?" in err
    assert "\n\nhint: " in err


def test_a_wrong_option_is_2_and_json_where_json_is_wanted(capsys):
    code, out, err = run(capsys, "ls", "--nonsense", "--json")
    assert code == 2
    assert json.loads(out)["error"].keys() == {"kind", "message", "hint"}
    assert "--nonsense" in err


def test_a_bug_is_1_with_a_traceback_and_whom_to_tell(capsys, monkeypatch):
    def broken(*_arguments, **_options):
        raise RuntimeError("the floor fell in")

    monkeypatch.setattr(main.cli, "main", broken)
    code, _out, err = run(capsys, "ls")
    assert code == 1
    assert "Traceback" in err
    assert "error: the floor fell in\n\nhint: This is a bug of towline" in err


def test_ctrl_c_outside_a_run_is_130(capsys, monkeypatch):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(main.cli, "main", interrupted)
    assert run(capsys, "ls")[0] == 130


def test_an_instance_that_gc_can_not_end_is_6(capsys, monkeypatch, tmp_path):
    from towline.api import Towline

    row = {"provider": "cloud", "kind": "instance", "id": None, "tag": "towline-abc", "since": 1.0}
    row |= {"price_usd_per_hour": 2.5, "error": "it may still bill", "hint": "look there"}

    async def swept(_towline, *, dry_run):
        assert not dry_run
        keys = ("orphans", "claimed", "unreachable", "ended")
        return {key: [] for key in keys} | {"failed": [row]}

    monkeypatch.setattr(Towline, "gc", swept)
    monkeypatch.setenv("TOWLINE_HOME", str(tmp_path))
    monkeypatch.setattr("towline.cli.text.Out.take_logs", lambda _out: None)
    code, out, _err = run(capsys, "gc")
    assert (code, out) == (6, "NOT ENDED: towline-abc: it may still bill; look there\n")


def test_no_thread_for_tidying_up_changes_no_result(monkeypatch):
    """Promise 5: asyncio starts a thread as it ends, and a full process table refuses that."""

    async def refused(_loop, _timeout=None):
        message = "can't start new thread"
        raise RuntimeError(message)

    async def work(result):
        if result is None:
            raise RuntimeError
        return result

    monkeypatch.setattr(asyncio.BaseEventLoop, "shutdown_default_executor", refused)
    assert drive.in_loop(work(5)) == 5
    with pytest.raises(RuntimeError):
        drive.in_loop(work(None))


def test_closed_streams_are_no_bug(tmp_path):
    """Promise 5: `towline ... <&- >&- 2>&-`, as some schedulers start it."""
    command = f"exec {sys.executable} -m towline ls <&- >&- 2>&-"
    env = os.environ | {"TOWLINE_HOME": str(tmp_path / "h")}
    assert subprocess.run(["sh", "-c", command], env=env, check=False).returncode == 0
