"""Promise 5: progress is read out of any log, in any pieces, and no log can break the reading."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.core.progress import Progress, ProgressParser, parse_line


def parsed(*pieces):
    parser = ProgressParser()
    return [one for piece in pieces for one in parser.feed(piece)] + parser.flush()


def report(**data):
    return json.dumps({"type": "progress", "data": data}).encode()


PROMISED = (
    b'{"type":"progress","data":{"epoch":5,"total_epochs":10,"metrics":{"loss":0.23}}}'  # SPEC
)


def test_the_promised_json_line_is_read():
    found = parse_line(PROMISED)
    assert found == Progress(epoch=5, total_epochs=10, metrics={"loss": 0.23}, source="towline")
    assert json.loads(PROMISED)["data"].items() <= found.data().items()


def test_all_fields_of_the_json_line_are_read():
    said = {
        "epoch": 1,
        "total_epochs": 4,
        "step": 3,
        "total_steps": 9,
        "fraction": 0.3,
        "eta_s": 60,
    }
    assert said.items() <= parse_line(report(**said)).data().items()
    wrong = parse_line(report(fraction=1.5, eta_s=-1, step="3"))
    assert wrong.fraction is wrong.eta_s is wrong.step is None


@pytest.mark.parametrize(
    ("line", "epoch", "total", "metrics"),
    [
        (b"epoch 3/10", 3, 10, {}),
        (b"Epoch 3/10 loss=0.5", 3, 10, {"loss": 0.5}),
        (b"Epoch: 3 / 10, loss: 1e-3, acc: .97", 3, 10, {"loss": 0.001, "acc": 0.97}),
        (b"EPOCH [3/10] val/loss=-2.5", 3, 10, {"val/loss": -2.5}),
        (b"Epoch 3 of 10 top-1 = 88", 3, 10, {"top-1": 88.0}),
        (b"Epochs=(3/10)", 3, 10, {}),
        (b"  Epoch #3/10\tloss=nan lr=inf", 3, 10, {"loss": None, "lr": None}),
        (b"\x1b[32mEpoch 3/10\x1b[0m \x1b[1mloss=0.25\x1b[0m", 3, 10, {"loss": 0.25}),
        (b"[12:30:01] epoch 1/2 loss=4", 1, 2, {"loss": 4.0}),
        ("epoch 1/2 verlust=2 größe=3".encode(), 1, 2, {"verlust": 2.0}),
    ],
)
def test_the_plain_habit_is_read(line, epoch, total, metrics):
    found = parse_line(line)
    assert (found.epoch, found.total_epochs) == (epoch, total)
    assert metrics.items() <= found.metrics.items()


@pytest.mark.parametrize(
    "line",
    [b"", b"epoch", b"epoch 3", b"epochal 3/10", b"step 3/10", b"3/10", b"loss=0.5", b"{", b"{}"]
    + [b'{"type":"progress"}', b'{"type":"progress","data":[]}', b'{"type":"log","data":{}}']
    + [b'{"type":"progress","data":null}', b"[1]", b"\xff\xfe\x00", b"{" * 60_000]
    + [b'{"a":' * 12_000, b"epoch 1/2" + b"x" * 70_000],
)
def test_other_lines_are_no_progress(line):
    assert parse_line(line) is None


@pytest.mark.parametrize(
    ("value", "epoch"),
    [(5, 5), (5.0, 5), (0, 0), ("5", None), (None, None), (True, None), ([5], None), ({}, None)]
    + [(float("nan"), None), (float("inf"), None), (-1, None), (10**400, None), (1e300, None)],
)
def test_an_epoch_is_a_small_count_or_unknown(value, epoch):
    found = parse_line(report(epoch=value, total_epochs=value))
    assert found.epoch == found.total_epochs == epoch


def test_metrics_are_numbers_or_none():
    said = {"a": 1, "b": "2.5", "c": float("nan"), "d": float("-inf"), "e": "high", "f": None}
    more = {"g": True, "h": [1], "i": 10**400, "j": "1e999", "k": -0.0}
    found = parse_line(report(epoch=1, metrics=said | more)).metrics
    assert found == {"a": 1.0, "b": 2.5, "c": None, "d": None, "j": None, "k": 0.0}


@pytest.mark.parametrize("metrics", [None, [], "loss", 3, True])
def test_metrics_of_a_wrong_shape_are_left_out(metrics):
    assert parse_line(report(epoch=1, metrics=metrics)) == Progress(epoch=1, source="towline")


def test_a_metric_name_can_always_be_written_to_a_file():
    found = parse_line(b'{"type":"progress","data":{"metrics":{"\\ud800 loss":1}}}')
    assert [name.encode("utf-8") for name in found.metrics] == [b"? loss"]


LOG = (
    b"loading\r\nepoch 1/3 loss=0.5\n" + PROMISED + b"\n\xff\xfe noise\x00\n"
    b" 10%|#   |\r 50%|##  | epoch 2/3 loss=0.25\r100%|####|\b\b\n\n"
    b"epoch 2/3 acc=\xc3\xa4 loss=nan\n{not json}\nepoch 3/3 loss=1e-3 and no newline"
)


def test_a_log_cut_at_every_byte_gives_the_same_events():
    whole = parsed(LOG)
    assert [event.epoch for event in whole] == [1, 5, 2, 2, 3]
    for at in range(len(LOG) + 1):
        assert parsed(LOG[:at], LOG[at:]) == whole
    assert parsed(*(LOG[n : n + 1] for n in range(len(LOG)))) == whole


def cut(data, sizes):
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


texts = st.lists(
    st.sampled_from([
        b"\n",
        b"\r",
        b"\b",
        b"epoch 1/2 ",
        b"loss=1 ",
        PROMISED,
        b"x",
        b"{",
        b"\xff",
    ]),
    max_size=25,
).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(texts, st.lists(st.integers(0, 12), max_size=12))
def test_any_log_in_any_pieces_gives_the_same_events(log, sizes):
    assert parsed(*cut(log, sizes)) == parsed(log)


@pytest.mark.parametrize("length", [65_000, 65_536, 65_537, 70_000, 200_000])
@pytest.mark.parametrize("piece", [1000, 4096, 65_536, 65_537, 10**6])
def test_a_line_too_long_is_left_out_however_it_comes(length, piece):
    log = b"x" * length + b" epoch 1/2\nepoch 2/2\n"
    pieces = [log[n : n + piece] for n in range(0, len(log), piece)]
    assert parsed(*pieces) == [Progress(epoch=2, total_epochs=2, source="text")]


def test_a_line_without_end_holds_no_memory():
    parser = ProgressParser()
    for _ in range(40):
        parser.feed(b"y" * 32_768)
    assert len(parser._screen.rest) <= 65_536
    assert [one.epoch for one in parser.feed(b" epoch 1/2\nepoch 2/2\n")] == [2]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_never_raises(raw):
    parsed(raw)
    parsed(b"epoch 1/2 " + raw)
    parsed(b'{"type":"progress","data":' + raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(json_values, json_values, json_values)
def test_any_json_in_the_promised_shape_can_be_stored(epoch, total, metrics):
    found = parse_line(report(epoch=epoch, total_epochs=total, metrics=metrics))
    assert json.loads(json.dumps(found.data(), allow_nan=False)) == found.data()


@pytest.mark.parametrize(
    "line",
    [b"epoch 1/2 " + b"a" * 60_000, b"epoch" + b" " * 60_000 + b"x", b"epoch 1/2 " + b"a=" * 30_000]
    + [b"epoch 1/2 " + b"a_" * 30_000, b"epoch " * 10_000, b"\x1b[" * 30_000 + b"epoch 1/2"],
)
def test_no_line_takes_long(line):
    began = time.process_time()
    parse_line(line)
    assert time.process_time() - began < 1.0


def test_in_a_hurry_lines_that_look_alike_are_sampled_and_the_last_numbers_are_right():
    rows = [f"epoch {n // 1000 + 1}/9 step {n} loss={n / 100}" for n in range(5000)]
    rows.insert(2500, "Epoch 3 is over: val_loss: 0.125")
    data = "\n".join([*rows, ""]).encode()
    parser, read = ProgressParser(), []
    read_one = parser._read
    parser._read = lambda segment: (read.append(segment), read_one(segment))[1]
    told = parser.feed(data, hurried=True) + parser.flush()
    assert len(read) < 50
    assert b"Epoch 3 is over: val_loss: 0.125" in read
    assert (told[-1].epoch, told[-1].metrics["loss"]) == (5, 49.99)
