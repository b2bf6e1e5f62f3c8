"""Reading the log's end, saying events, and the live view's screen."""

import re

import pytest

from towline.cli.render import LogTail, PlainView, offset_of_last
from towline.cli.text import Out
from towline.cli.words import Words, cost_text, event_json, progress_text
from towline.store.journal import Event


def event(kind, happened_at=0.0, **data):
    return Event(seq=1, at=happened_at, kind=kind, data=data)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
@pytest.mark.parametrize("text", ["", "\n", "one", "one\n", "one\ntwo\nthree\n", "one\ntwo\nthree"])
def test_the_last_lines_begin_where_they_begin(tmp_path, text, count):
    log = tmp_path / "log"
    log.write_text(text)
    last = text.splitlines(keepends=True)[-count:] if count else []
    assert offset_of_last(log, count) == len(text) - len("".join(last))


def test_the_last_lines_of_a_long_log_are_found_from_its_end(tmp_path):
    log = tmp_path / "log"
    lines = [f"line {n} " + "x" * (n % 200) + "\n" for n in range(5000)]
    log.write_text("".join(lines))
    for count in (1, 20, 700, 4999, 5000, 6000):
        assert log.read_text()[offset_of_last(log, count) :] == "".join(lines[-count:])


def test_a_log_that_does_not_exist_yet_has_no_lines(tmp_path):
    tail = LogTail(tmp_path / "log")
    tail.skip_to_last(5)
    assert (tail.read(), tail.rest) == ([], "")


def test_a_log_that_cannot_be_opened_now_is_read_later(tmp_path):
    log = tmp_path / "log"
    tail = LogTail(log)
    log.mkdir()
    assert tail.read() == []
    log.rmdir()
    log.write_text("one\n")
    assert tail.read() == ["one"]


def test_a_log_is_read_in_parts_to_its_end(tmp_path):
    log = tmp_path / "log"
    log.write_text("one\ntwo\nthree\n")
    tail = LogTail(log)
    assert (tail.read(6), tail.is_at_end) == (["one"], False)
    assert (tail.read(1000), tail.is_at_end) == (["two", "three"], True)


def test_a_growing_log_is_read_line_by_line(tmp_path):
    log = tmp_path / "log"
    tail = LogTail(log)
    log.write_bytes(b"one\ntw")
    assert (tail.read(), tail.rest) == (["one"], "tw")
    log.write_bytes(b"one\ntwo\n\xff\n")
    assert (tail.read(), tail.rest) == (["two", "\ufffd"], "")


def test_of_a_bar_only_the_last_frame_is_shown(tmp_path):
    log = tmp_path / "log"
    tail = LogTail(log)
    log.write_bytes(b"\r 0%\r 50%")
    assert (tail.read(), tail.rest) == ([], " 50%")
    log.write_bytes(b"\r 0%\r 50%\r 90%\r")
    assert (tail.read(), tail.rest) == ([], " 90%")
    log.write_bytes(b"\r 0%\r 50%\r 90%\r 100%\r\nnext\r\n")
    assert (tail.read(), tail.rest) == ([" 100%", "next"], "")


def test_a_log_that_a_new_driver_cut_back_is_not_shown_twice(tmp_path):
    log = tmp_path / "log"
    tail = LogTail(log)
    log.write_bytes(b"one\ntwo\n")
    tail.read()
    log.write_bytes(b"one\n")
    assert tail.read() == []
    log.write_bytes(b"one\ntwo\nthree\n")
    assert tail.read() == ["three"]


@pytest.mark.parametrize(
    ("happened", "said"),
    [
        (event("step_started", step="deliver", attempt=1), "Uploading ..."),
        (event("step_started", step="follow", attempt=2), "Training (attempt 2) ..."),
        (event("note", text="hello"), "  hello"),
        (
            event("progress", epoch=3, total_epochs=10, metrics={"loss": 0.3}),
            "  epoch 3/10 loss=0.3",
        ),
        (event("line_back", silent_s=12.0), "  connected again after 12 s"),
        (event("run_ended", state="succeeded"), None),
        (event("something new"), None),
    ],
)
def test_events_in_words(happened, said):
    assert Words().say(happened) == said


def test_the_end_of_a_step_says_how_long_it_took():
    words = Words()
    words.say(event("step_started", 10.0, step="gather", attempt=1))
    done = event("step_done", 11.4, step="gather", attempt=1)
    failed = event("step_failed", 11.4, step="gather", attempt=1, result={"error": "no room"})
    cut = event(
        "step_failed", 11.4, step="gather", attempt=1, result={"stopped": "by the user's wish"}
    )
    assert words.say(done) == "Downloading model: done (1.4 s)"
    assert words.say(failed) == "Downloading model: failed (1.4 s): no room"
    assert words.say(cut) == "Downloading model: ended (1.4 s) by the user's wish"


def test_an_event_keeps_its_time_and_type_whatever_it_carries():
    shown = event_json(event("step_done", 5.0, step="acquire", type="big", at=1.0))
    assert shown == {"at": 5.0, "type": "step_done", "step": "acquire"}


def test_progress_without_a_total_and_with_nan():
    assert (
        progress_text({"epoch": 3, "total_epochs": None, "metrics": {"loss": None}})
        == "epoch 3 loss=nan"
    )
    assert progress_text({"epoch": None, "total_epochs": None, "metrics": {}}) == ""


def test_cost_in_words():
    cost = {"spent_usd": 1.0, "projected_usd": 2.5, "cap_usd": 10}
    assert cost_text(cost) == "$1.00 spent, $2.50 projected, $10.00 at most"
    assert cost_text({"spent_usd": 1.0, "projected_usd": 1.0, "cap_usd": None}) == "$1.00 spent"


def test_a_plain_view_with_the_log_leaves_progress_to_it(capsys):
    view = PlainView(Out(), with_log=True)
    view.event(event("progress", epoch=1, total_epochs=2, metrics={}))
    view.log(["epoch 1/2"], "")
    assert capsys.readouterr().out == "| epoch 1/2\n"


def test_the_live_view_shows_the_eight_steps_and_the_log(finished, monkeypatch, capsys):
    pytest.importorskip("rich")
    from towline.api import Towline
    from towline.cli.live import LiveView
    from towline.home import Home

    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "50")
    towline = Towline(Home(finished.home), {})
    try:
        run = towline.store.find(None)
        view = LiveView(Out(), towline, run)
        for one in towline.store.events(run.id):
            view.event(one)
        view.log(["a line \x1b[31mof the log"], "and the next")
        view.tick()
        view.close()
    finally:
        towline.close()
    screen = capsys.readouterr().out
    words = ["Renting", "Waiting for SSH", "Uploading", "Preparing environment"]
    words += ["Starting training", "Training", "Downloading model", "Terminating"]
    assert all(re.search(rf"{word} +\d+\.\d s", screen) for word in words)
    assert "SSH service ready (" in screen
    assert "epoch 3/3" in screen
    assert "100%" in screen
    assert "  a line of the log" in screen
    assert "  and the next" in screen
    assert "\x1b" not in screen
