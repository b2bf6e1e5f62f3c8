"""Side files as real trainings wrote them: the same reports in any pieces, by any line of readers."""

import json
import random
import struct
from pathlib import Path

import pytest

from towline.core.side_files import SIDE_NAMES, reader

FOLDER = Path(__file__).parents[1] / "data" / "sides"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file() and reader(path.name))
#: by trainer: reports, and the first and the last of what they hold
EXPECTED = {
    "catboost_training.json": (40, (1, None, "learn", 0.5808806938), (40, None, "test", 0.08633684113)),
    "trainer_state.json": (15, (1, 5, "loss", 0.6955260753631591), (3, 60, "eval_loss", 0.005479412619024515)),
    "history.csv": (4, (1, None, "loss", 2.199862241744995), (4, None, "val_loss", 1.113970398902893)),
    "metrics.csv": (10, (1, 5, "train_loss", 2.1599533557891846), (3, 36, "val_acc", 0.8777777552604675)),
    "summary.csv": (3, (1, None, "train_loss", 1.924059381232796), (3, None, "eval_top1", 80.5555534362793)),
    "results.csv": (3, (1, None, "train/box_loss", 6.73047), (3, None, "lr/pg2", 0.00056678)),
    "events.out": (23, (None, 4, "train_loss", 2.1599533557891846), (None, 35, "val_acc", 0.8777777552604675)),
}  # fmt: skip


def whole(path):
    return [one.data() for one in reader(str(path)).feed(path.read_bytes())]


def name_of(path):
    return path.parent.name + "-" + path.name[:20]


def csv_rows(name, text):
    return [(one.epoch, one.step, one.metrics) for one in reader(name).feed(text.encode())]


def test_every_kind_was_recorded():
    assert {path.name.partition(".tfevents")[0] for path in FILES} == set(EXPECTED)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_real_file_is_read(path):
    count, first, last = EXPECTED[path.name.partition(".tfevents")[0]]
    told = whole(path)
    assert len(told) == count
    told = [one for one in told if one["metrics"]]
    for (epoch, step, name, value), one in ((first, told[0]), (last, told[-1])):
        assert (one["epoch"], one["step"], one["metrics"][name]) == (epoch, step, value)


@pytest.mark.parametrize("path", [p for p in FILES if not reader(p.name).whole], ids=name_of)
def test_any_pieces_and_any_change_of_readers_say_the_same(path):
    data, rng, expected = path.read_bytes(), random.Random(9), whole(path)
    for _ in range(30):
        told, at, one = [], 0, reader(str(path))
        while at < len(data):
            size = rng.choice([1, 2, 7, 60, 900])
            told += [row.data() for row in one.feed(data[at : at + size])]
            at += size
            if rng.random() < 0.3:
                one = reader(str(path), json.loads(json.dumps(one.state())))
        assert told == expected


def test_a_state_that_grows_says_only_what_is_new():
    path = FOLDER / "huggingface" / "trainer_state.json"
    value = json.loads(path.read_text())
    history, one, told = value["log_history"], reader(path.name), []
    for upto in (0, 3, 3, 9, len(history)):
        text = json.dumps(value | {"log_history": history[:upto]})
        told += [row.data() for row in one.feed(text.encode())]
        one = reader(path.name, json.loads(json.dumps(one.state())))
        assert one.feed(text[: len(text) // 2].encode()) == []  # half written
    assert told == whole(path)
    assert len(reader(path.name, {"seen": 99}).feed(path.read_bytes())) == len(
        told
    )  # another training


def test_a_table_that_counts_from_zero_is_counted_from_one():
    assert [row[0] for row in csv_rows("results.csv", "epoch, loss\n 0, 1.5\n 1, 1.2\n")] == [1, 2]
    assert [row[0] for row in csv_rows("results.csv", "epoch,loss\n1,1.5\n2,1.2\n")] == [1, 2]


def test_values_are_numbers_nan_or_left_out():
    (row,) = csv_rows("results.csv", "epoch,time,a,b,c,d,e\n3.0,9,nan,-inf,1e-05,,best.pt\n")
    assert row == (3, None, {"a": None, "b": None, "c": 1e-05})


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_tables_may_be_parted_by_other_marks(mark):
    text = f"Epoch{mark}loss\r\n1{mark}0.5\r\n"
    assert csv_rows("log.csv", text) == [(1, None, {"loss": 0.5})]


def test_a_table_that_is_no_training_log_says_nothing():
    assert csv_rows("metrics.csv", "name,size\na,1\nb,2\n") == []


def test_detectron_counts_iterations_from_zero():
    text = (
        b'{"iteration": 19, "total_loss": 2.5, "lr": 0.1}\n{"iteration": 39, "total_loss": NaN}\n'
    )
    told = reader("metrics.json").feed(text)
    assert [(one.step, one.metrics) for one in told] == [
        (20, {"total_loss": 2.5, "lr": 0.1}), (40, {"total_loss": None}),
    ]  # fmt: skip


def test_a_summary_of_the_whole_training_is_no_report_of_a_moment():
    assert reader("metrics.json").feed(b'{"eval_loss": 0.05, "accuracy": 1.0}\n') == []
    lines = reader("metrics.jsonl").feed(b'{"loss": 0.5}\n{"loss": 0.4}\n')
    assert [one.metrics for one in lines] == [{"loss": 0.5}, {"loss": 0.4}]


def test_mmengine_gives_a_validation_its_epoch_as_step():
    text = (
        b'{"lr": 0.02, "loss": 1.5, "epoch": 1, "iter": 50, "memory": 4000, "step": 50}\n'
        b'{"coco/bbox_mAP": 0.1, "data_time": 0.2, "step": 1}\n'
    )
    told = reader("20260101/vis_data/scalars.json").feed(text)
    assert [(one.epoch, one.step) for one in told] == [(1, 50), (1, None)]
    assert told[1].metrics["coco/bbox_mAP"] == 0.1


# -- TensorBoard ----------------------------------------------------------------------------------


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def event(tag, value, step):
    summary = field(5, field(1, field(1, tag.encode()) + value))
    return record(b"\x09" + struct.pack("<d", 1.8e9) + b"\x10" + varint(step) + summary)


def record(data):
    return struct.pack("<QI", len(data), 7) + data + bytes(4)


def simple(number):
    return b"\x15" + struct.pack("<f", number)


def tensor(number):
    return field(8, b"\x08\x01" + field(4, struct.pack("<f", number)))


def test_keras_writes_its_epochs_as_steps_of_tensors():
    data = event("epoch_loss", tensor(0.5), 0) + event("epoch_loss", tensor(float("nan")), 1)
    told = reader("logs/validation/events.out.tfevents.1.v2").feed(data)
    assert [(one.epoch, one.step, one.metrics) for one in told] == [
        (1, None, {"val_loss": 0.5}), (2, None, {"val_loss": None}),
    ]  # fmt: skip
    assert told[0].at == 1.8e9


def test_images_and_graphs_are_passed_over():
    image = record(bytes(3_000_000))
    data = event("a", simple(1.0), 1) + image + event("b", simple(2.0), 2)
    one, told = reader("events.out.tfevents.1"), []
    for at in range(0, len(data), 50_000):
        told += one.feed(data[at : at + 50_000])
        assert len(json.dumps(one.state())) < 200_000
    assert [row.metrics for row in told] == [{"a": 1.0}, {"b": 2.0}]


# -- anything -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", SIDE_NAMES)
def test_no_content_is_too_odd(pattern):
    rng = random.Random(pattern)
    name = pattern.replace("*", ".1")
    real = [path.read_bytes() for path in FILES]
    for _ in range(60):
        one = reader(name)
        data = bytearray(
            rng.choice([*real, rng.randbytes(2000), b"[" * 100_000, b"\xff\xfeepoch\n"])
        )
        for _ in range(rng.randint(0, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        for row in one.feed(bytes(data)) + one.feed(bytes(data[:50])):
            json.dumps(row.data())
            assert all(v is None or isinstance(v, int | float) for v in row.metrics.values())
        json.dumps(one.state())


@pytest.mark.parametrize(
    "name", ["notes.csv", "model.pt", "results.csv.bak", "Results.CSV", "", "config.json"]
)
def test_other_files_have_no_reader(name):
    assert reader(name) is None
