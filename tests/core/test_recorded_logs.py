"""Real logs, in any pieces, by parsers that die between any two of them: the same events."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.core.progress import ProgressParser

LOGS = Path(__file__).parent.parent / "data" / "logs"
YOLO = {"precision": 0.0, "recall": 0.0, "mAP50": 0.0, "mAP50-95": 0.0}
YOLO |= {"train/box_loss": 6.492, "train/cls_loss": 4.212, "train/dfl_loss": 4.239}
NET = {"train_loss": 1.06, "val_loss": 1.04, "val_acc": 0.878}
KERAS = {"accuracy": 0.8372, "loss": 1.2171, "val_accuracy": 0.8083, "val_loss": 1.114}
PYTORCH = {"loss": 0.24, "val_loss": 0.264, "accuracy": 0.9306}
TIMM = {"train_loss": 0.909, "lr": 0.001, "eval_loss": 0.775, "eval_top1": 80.556}
CATBOOST = {"learn": 0.040124, "test": 0.0863368}
LIGHTGBM = {"valid binary_logloss": 0.0770609, "valid auc": 0.998413}
LIGHTGBM |= {"train binary_logloss": 0.0142156, "train auc": 1.0}
XGBOOST = {"train-logloss": 0.01909, "train-auc": 1.0, "valid-logloss": 0.07291}
FASTAI = {"train_loss": 0.198234, "valid_loss": 0.078594, "accuracy": 0.982301}

#: log -> epochs that were reported, how many there are in all, how many steps the last figures
EXPECTED = {
    "accelerate.log": ([1, 2, 3], 3, 87, {"loss": 0.5463}),
    "catboost.log": (list(range(1, 41)), 40, None, CATBOOST),
    "fastai.log": ([1, 2, 3, 4], 4, 7, FASTAI),
    "huggingface.log": ([1, 2, 3], None, 60, {"train_loss": 0.2478, "eval_loss": 0.005479}),
    "keras.log": ([1, 2, 3, 4], 4, 23, KERAS),
    "lightgbm.log": (list(range(5, 51, 5)), None, None, LIGHTGBM),
    "lightning.log": ([1, 2, 3], 3, 12, NET),
    "lightning-rich.log": ([3], 3, 12, {"train_loss": 1.063, "val_loss": 1.039, "val_acc": 0.878}),
    "pytorch.log": ([1, 2, 3, 4, 5, 6], 6, None, PYTORCH),
    "sklearn.log": (list(range(1, 26)), None, None, {"loss": 0.35881938}),
    "timm.log": ([1, 2, 3], None, 23, TIMM),
    "ultralytics.log": ([1, 2, 3], 3, 6, YOLO),
    "xgboost.log": (list(range(1, 31)), None, None, XGBOOST),
}
#: what a terminal of 220 columns shows is another run's, or the same figures
IN_TERMINAL = {
    "fastai.log": {"train_loss": 0.185963, "valid_loss": 0.068336, "accuracy": 0.982301},
    "huggingface.log": {"train_loss": 0.19, "eval_loss": 0.003071},
    "lightning-rich.log": {"train_loss": 1.063, "val_loss": 1.039, "val_acc": 0.878},
}


def read(name):
    return (LOGS / name).read_bytes()


def whole(log):
    parser = ProgressParser()
    return parser.feed(log) + parser.flush()


def summary(events):
    """Epochs in their order, the largest total, the largest number of steps, the newest figures."""
    newest = {}
    for one in events:
        newest |= one.metrics
    epochs = list(dict.fromkeys(one.epoch for one in events if one.epoch is not None))
    totals = [one.total_epochs for one in events if one.total_epochs]
    steps = [one.total_steps for one in events if one.total_steps]
    return epochs, totals[-1] if totals else None, max(steps, default=None), newest


def test_every_recording_has_its_expectation():
    recorded = {
        row["log"] for one in json.loads(read("index.json")).values() for row in one["rows"]
    }
    plain = {name.replace("-pty", "") for name in recorded} - {"ultralytics-80.log"}
    assert plain == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_log_in_a_file_is_understood(name):
    epochs, total, steps, metrics = EXPECTED[name]
    found = summary(whole(read(name)))
    assert found[:3] == (epochs, total, steps)
    assert metrics.items() <= found[3].items()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_log_of_a_terminal_is_understood(name):
    epochs, total, steps, metrics = EXPECTED[name]
    found = summary(whole(read(name.replace(".log", "-pty.log"))))
    assert found[:3] == (epochs if name != "lightning-rich.log" else [1, 2, 3], total, steps)
    assert IN_TERMINAL.get(name, metrics).items() <= found[3].items()


def test_a_narrow_terminal_cuts_figures_and_none_is_made_up():
    found = summary(whole(read("ultralytics-pty-80.log")))
    assert found[:3] == ([1, 2, 3], 3, 6)
    assert found[3] == {"train/box_loss": 6.492, "train/cls_loss": 4.186}


@pytest.mark.parametrize("path", sorted(LOGS.glob("*.log")), ids=lambda path: path.name)
def test_shares_rise_and_names_are_names(path):
    events = whole(path.read_bytes())
    shares = [one.fraction for one in events if one.fraction is not None]
    assert shares == sorted(shares)
    assert all(0.0 <= one <= 1.0 for one in shares)
    for one in events:
        assert all(name.isascii() and name.isprintable() for name in one.metrics)
        assert one.source
        assert json.loads(json.dumps(one.data(), allow_nan=False)) == one.data()


@pytest.mark.parametrize("name", ["lightning.log", "lightning-pty.log", "keras.log", "timm.log"])
def test_the_figures_of_an_epoch_stand_in_its_last_report(name):
    ends = {one.epoch: one.metrics for one in whole(read(name)) if one.metrics}
    firsts = [ends[epoch] for epoch in (1, 2, 3)]
    losses = [one.get("val_loss", one.get("eval_loss")) for one in firsts]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 3


# -- any pieces, any deaths ------------------------------------------------------------------------

ALL = b"\n".join(path.read_bytes() for path in sorted(LOGS.glob("*.log")))
WANTED = whole(ALL)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(LOGS.glob("*.log"))),
    st.integers(0, 10**6),
    st.sampled_from([3, 60, 700, 9_000]),
)
def test_any_pieces_give_the_same_events(path, seed, size):
    log, rng = path.read_bytes(), random.Random(seed)
    parser, found, at = ProgressParser(), [], 0
    while at < len(log):
        step = rng.randint(1, size)
        found += parser.feed(log[at : at + step])
        at += step
    assert found + parser.flush() == whole(log)


def lives(log, seed, size):
    """Parsers that hand their state on at every safe point they come to."""
    rng, parser, found, at, deaths = random.Random(seed), ProgressParser(), [], 0, 0
    while at < len(log):
        step = rng.randint(1, size)
        if rng.random() < 0.5:  # half of the pieces end where a line does
            step = max(1, log.find(b"\n", at) + 1 - at, log.find(b"\r", at) + 1 - at)
        found += parser.feed(log[at : at + step])
        at += step
        if parser.at_line_start:
            state = json.dumps(parser.state())
            assert len(state) < 4096
            parser, deaths = ProgressParser(json.loads(state)), deaths + 1
    return found + parser.flush(), deaths


@pytest.mark.parametrize("path", sorted(LOGS.glob("*.log")), ids=lambda path: path.name)
def test_parsers_that_die_at_every_safe_point_lose_and_double_nothing(path):
    log = path.read_bytes()
    for seed, size in ((1, 30), (2, 300)):
        found, deaths = lives(log, seed, size)
        assert deaths >= 3
        assert found == whole(log)


def test_all_logs_as_one_survive_deaths():
    found, deaths = lives(ALL, 3, 20_000)
    assert deaths > 20
    assert found == WANTED


def test_a_state_of_another_version_is_a_fresh_start():
    log = read("ultralytics.log")
    parser = ProgressParser({"version": 0, "memory": 7, "thinner": {"held": {"no": "field"}}})
    assert parser.feed(log) + parser.flush() == whole(log)
    assert ProgressParser({}).state() == ProgressParser(None).state()


# -- hostile bytes ---------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(LOGS.glob("*.log"))), st.integers(0, 10**6))
def test_damaged_logs_never_raise(path, seed):
    rng, log = random.Random(seed), bytearray(path.read_bytes()[:9_000])
    for _ in range(rng.randint(1, 60)):
        at = rng.randrange(len(log))
        match rng.randrange(4):
            case 0:
                log[at] = rng.randrange(256)
            case 1:
                del log[at : at + rng.randint(1, 30)]
                log += b"."
            case 2:
                log[at:at] = rng.choice([
                    b"\r",
                    b"\n",
                    b"9" * 30,
                    b"\x1b[",
                    b"\xff",
                    b"nan",
                    b"%|",
                    b"\t",
                ])
            case _:
                log[at:at] = log[at : at + rng.randint(1, 200)]
    events = whole(bytes(log))
    for one in events:
        json.dumps(one.data(), allow_nan=False)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(ALL.replace(b"\r", b"\n").split(b"\n")), max_size=40),
    st.binary(max_size=40),
)
def test_lines_of_all_frameworks_in_any_order_never_raise(lines, noise):
    log = noise.join(lines)
    parser = ProgressParser()
    for one in parser.feed(log) + parser.flush():
        json.dumps(one.data(), allow_nan=False)
    assert len(json.dumps(parser.state())) < 8192


def test_two_processes_in_one_stream_do_not_flood():
    """Rows of one are glued behind the frames of the other, and they are not in the same epoch."""
    frames = [
        f"\rEpoch {epoch}:  {n}%|##   | {n}/100 [00:{n // 2:02d}<00:09, 2it/s, v_num=0, loss=0.5]".encode()
        for epoch in (2, 5)
        for n in range(100)
    ]
    mixed = b"".join(a + b for a, b in zip(frames[:100], frames[100:], strict=True))
    events = whole(mixed + b"\n")
    assert len(events) <= 15
    assert events[-1].epoch == 6
