"""The command `towline`: its commands by name, and the one place that knows exit codes.

A command's module is imported when it is used, so that `towline --help` starts at once.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import Any, NoReturn

import click

from towline import __version__
from towline.cli.text import Out

_USAGE, _INTERRUPTED = 2, 130
_LAST_STREAM = 2  # stderr's number

#: by heading: the commands' names, modules and first lines
_COMMANDS = {
    "Train": {
        "train": ("run", "Run a task: rent, upload, train, bring the model back, terminate."),
        "plan": ("plan", "Show what a run would send, take and cost; nothing is rented."),
        "recipes": (
            "recipes",
            "List the trainings that need no script; show one's settings or source.",
        ),
        "demo": ("run", "Train a real small model on this machine, with no account."),
        "schema": ("show", "Print the JSON Schema of towline.yaml."),
    },
    "Look": {
        "ls": ("show", "List the runs, the newest first."),
        "status": ("show", "Show a run as it is now."),
        "logs": ("logs", "Print what the training printed."),
        "metrics": ("metrics", "Show what a training reported, as table and chart."),
        "events": ("show", "Print what happened in a run."),
        "receipt": ("show", "Show what a run did, took and cost."),
    },
    "Take the line up again": {
        "attach": ("control", "Watch a run that is under way."),
        "resume": ("control", "Drive a run whose driver is gone."),
        "wait": ("control", "Wait until a run is over."),
    },
    "End": {
        "stop": ("control", "End the training, bring home what there is, terminate."),
        "abort": ("control", "Terminate now and discard what is on the instance."),
        "gc": ("reach", "End instances with our tag that no active run claims."),
    },
    "Reach the instance": {
        "fetch": ("reach", "Download files from a run's live instance."),
        "ssh": ("reach", "Open a shell on a run's instance, or run a command there."),
    },
    "Accounts": {
        "offers": ("offers", "Show what all accounts offer now, the best first."),
        "login": ("login", "Store a provider's key, once the provider has accepted it."),
        "logout": ("login", "Remove a provider's stored key."),
        "doctor": ("doctor", "Check this machine and the accounts; one line and one fix each."),
    },
}
_HIDDEN = {"drive": "drive"}


class _Commands(click.Group):
    """Commands that are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names in the order of the help page."""
        return [name for group in _COMMANDS.values() for name in group]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        modules = {n: entry[0] for group in _COMMANDS.values() for n, entry in group.items()}
        module = (modules | _HIDDEN).get(name)
        if module is None:
            return None
        found: click.Command = getattr(importlib.import_module(f"towline.cli.{module}"), name)
        if not any(parameter.name == "verbose" for parameter in found.params):
            found.params.append(_verbose_option())
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a misspelt one gets a guess."""
        known = self.list_commands(ctx)
        if args[0] not in known and args[0] not in _HIDDEN:
            near = difflib.get_close_matches(args[0], known, n=1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"there is no command {args[0]!r}{guess}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        for heading, group in _COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, entry[1]) for name, entry in group.items()], 10)


def _verbose_option() -> click.Option:
    return click.Option(
        ["-v", "--verbose"],
        is_flag=True,
        expose_value=False,
        callback=lambda ctx, _option, wanted: setattr(ctx.obj, "is_verbose", wanted),
        help="Print debug logs, redacted.",
    )


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="towline", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Send a training to a rented GPU and bring the model back.

    RUN is a run's name or the beginning of its id; without it the newest run is meant.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> NoReturn:
    """Run the command line of this process."""
    _open_streams()
    sys.exit(run_command(sys.argv[1:]))


def _open_streams() -> None:
    """Put an open end where a stream was closed (`<&- >&-`): the next file must not get its number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _LAST_STREAM:
        continue
    os.close(fd)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - for as long as we run


def run_command(arguments: list[str]) -> int:
    """Run one command; every way it can end becomes an exit code here."""
    out = Out(as_json="--json" in arguments and arguments[0] != "ssh")  # there it is CMD's
    try:
        code: Any = cli.main(arguments, prog_name="towline", standalone_mode=False, obj=out)
    except click.ClickException as error:
        out.complain("UsageError", error.format_message(), _usage_hint(error))
        return _USAGE
    except (KeyboardInterrupt, click.Abort):
        out.complain("Interrupted", "interrupted", "`towline ls` shows whether a run is active")
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever it is, it is shown redacted
        return out.fail(error)
    return code if isinstance(code, int) else 0


def _usage_hint(error: click.ClickException) -> str:
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return f"`{ctx.command_path if ctx else 'towline'} --help` shows how it is used"
