"""The gate: control characters, secrets, JSON, readers that leave."""

import io
import json
import logging
import os
import sys

import pytest

from towline.cli.text import Out, printable, shorten, table
from towline.core.redact import Redactor
from towline.errors import SpecError

SECRET = "correct-horse-battery"


@pytest.fixture
def out():
    out = Out()
    out.redactor = Redactor([SECRET])
    return out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain \t text\nnext", "plain \t text\nnext"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a new title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("bell\x07 back\x08 \x00 \x7f \x9b31m", "bell back   31m"),
        ("\x1bc reset", " reset"),
        ("abc\u202edef", "abcdef"),
        ("Grüße 你好 🚀", "Grüße 你好 🚀"),
        ("over\rwritten", "overwritten"),
    ],
)
def test_nothing_steers_the_terminal(text, shown):
    assert printable(text) == shown


def test_a_secret_that_control_characters_split_is_hidden_all_the_same(out):
    assert SECRET not in out.clean("correct-\x1b[0mhorse-battery")


@pytest.mark.parametrize("way", ["line", "json", "document", "complain", "fail", "raw", "debug"])
def test_every_way_out_hides_secrets(out, capsys, way):
    ways = {
        "line": lambda: out.line(f"x {SECRET} y"),
        "json": lambda: out.json({"a": [SECRET]}),
        "document": lambda: out.document({"a": {"b": SECRET}}),
        "complain": lambda: out.complain("Kind", SECRET, SECRET),
        "fail": lambda: out.fail(RuntimeError(SECRET)),
        "raw": lambda: out.raw(SECRET.encode()),
        "debug": lambda: (out.take_logs(), logging.getLogger("any").warning("key %s", SECRET)),
    }
    try:
        ways[way]()
    finally:
        logging.basicConfig(force=True, handlers=[logging.NullHandler()], level=logging.WARNING)
    shown = "".join(capsys.readouterr())
    assert SECRET not in shown
    assert "***REDACTED***" in shown


def test_an_error_has_a_hint_after_a_blank_line(out, capsys):
    out.error(SpecError("it is wrong", hint="do it right"))
    assert capsys.readouterr().err == "error: it is wrong\n\nhint: do it right\n"


def test_with_json_lines_for_people_go_to_standard_error(capsys):
    out = Out(as_json=True)
    out.line("for people")
    out.error(SpecError("wrong", hint=None))
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "error": {"kind": "SpecError", "message": "wrong", "hint": None}
    }
    assert shown.err == "for people\nerror: wrong\n"


def test_json_is_one_line_of_ascii(out, capsys):
    out.json({"name": "Grüße\x9b\n"})
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert shown.count("\n") == 1


def test_a_reader_that_leaves_ends_nothing(monkeypatch, out):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        out.line("into nothing")
        assert out.is_closed
        out.line("more")


def test_a_character_the_terminal_lacks_is_replaced(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    Out().line("Grüße")
    narrow.seek(0)
    assert narrow.read() == "Gr??e\n"


def test_no_live_view_without_a_terminal(out, monkeypatch):
    assert not out.is_terminal
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert out.is_terminal
    assert not Out(as_json=True).is_terminal
    monkeypatch.setenv("TERM", "dumb")
    assert not out.is_terminal


def test_a_table_lines_up_and_its_last_column_is_cut():
    rows = [["NAME", "WHAT"], ["a", "x" * 30]]
    assert table(rows, width=16) == ["NAME  WHAT", "a     " + "x" * 7 + "..."]


def test_shorten_keeps_what_fits():
    assert shorten("abc", 3) == "abc"
    assert shorten("abcdef", 5) == "ab..."
