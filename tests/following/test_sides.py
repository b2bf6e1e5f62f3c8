"""Each row of a side file is recorded once, whatever happens to the file, the line or the driver."""

import base64
import random

import pytest

from towline.following.reports import Reports
from towline.following.sides import SideFiles

CSV = b"epoch,train/loss,lr\n" + b"".join(b"%d,0.%d,0.1\n" % (n, 100 - n) for n in range(1, 41))


def frame(path, data, offset=0):
    text = base64.b64encode(data).decode()
    return {"side": path, "offset": offset, "end": offset + len(data), "mark": 7, "data": text}


def sides(driver):
    ctx = driver.context()
    return SideFiles(ctx, Reports(ctx)), ctx


def epochs(driver):
    return [one["epoch"] for one in driver.reports()]


def test_rows_are_recorded_with_the_file_they_came_from(driver):
    files, ctx = sides(driver)
    files.take(frame("output/results.csv", CSV))
    assert epochs(driver) == list(range(1, 41))
    assert {one["file"] for one in driver.reports()} == {"output/results.csv"}
    assert ctx.facts()["progress"]["metrics"] == {"train/loss": 0.6, "lr": 0.1}


def test_any_pieces_and_any_change_of_drivers_give_each_row_once(driver):
    rng = random.Random(6)
    for number in range(3):
        path, at = f"output/{number}/results.csv", 0
        files, ctx = sides(driver)
        while at < len(CSV):
            size = rng.randint(1, 60)
            files.take(frame(path, CSV[at : at + size], at))
            at += size
            if rng.random() < 0.3:  # this driver is killed; the next one knows the journal alone
                ctx.journal.release_lease()
                files, ctx = sides(driver)
                assert files.wish()["known"][path] == {"offset": min(at, len(CSV)), "mark": 7}
        ctx.journal.release_lease()
        own = [one for one in driver.reports() if one["file"] == path]
        assert len(own) == (40 if number == 0 else 0)  # the same rows under another path are known


def test_a_file_written_anew_with_more_columns_repeats_nothing_it_said(driver):
    files, _ctx = sides(driver)
    files.take(frame("output/metrics.csv", b"epoch,step,loss\n1,5,0.5\n2,10,0.4\n"))
    again = b"epoch,step,loss,val\n1,5,0.5,\n2,10,0.4,\n2,10,,0.9\n3,15,0.3,\n"
    files.take(frame("output/metrics.csv", again))
    assert [one["metrics"] for one in driver.reports()] == [
        {"loss": 0.5}, {"loss": 0.4}, {"val": 0.9}, {"loss": 0.3},
    ]  # fmt: skip


def test_another_fold_in_the_same_file_counts(driver):
    files, _ctx = sides(driver)
    files.take(frame("output/results.csv", b"epoch,loss\n1,0.5\n2,0.4\n"))
    files.take(frame("output/results.csv", b"epoch,loss\n1,0.7\n2,0.4\n"))
    assert [(one["epoch"], one["metrics"]["loss"]) for one in driver.reports()] == [
        (1, 0.5), (2, 0.4), (1, 0.7),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["results.csv", "metrics.csv", "summary.csv"])
def test_no_content_is_too_odd(driver, name):
    rng = random.Random(name)
    files, _ctx = sides(driver)
    for number in range(20):
        odd = rng.choice([
            rng.randbytes(3000), b"\xff\xfe\0e\0p\0o\0c\0h\0", b"epoch,loss\n" + b'"' * 70_000,
            b"epoch,loss\nnan,nan\ninf,-inf\n1e999,x\n,,,\n", b"\n" * 1000, b"{[" * 50_000, b"",
        ])  # fmt: skip
        files.take(frame(f"output/{number}/{name}", odd))
    assert all(isinstance(one["metrics"], dict) for one in driver.reports())


def test_a_reader_that_gives_up_is_said_once_and_the_rest_goes_on(driver, monkeypatch):
    files, _ctx = sides(driver)

    class Broken:
        whole = False

        def feed(self, _data):
            raise ZeroDivisionError("odd")

    monkeypatch.setattr("towline.following.sides.reader", lambda *_args: Broken())
    files.take(frame("output/results.csv", b"x"))
    files.take(frame("output/results.csv", b"y", 1))
    assert [note for note in driver.notes() if "results.csv" in note] == driver.notes()
    assert len(driver.notes()) == 1


def test_a_name_that_is_no_side_file_is_ignored(driver):
    files, _ctx = sides(driver)
    assert files.take(frame("output/notes.txt", b"epoch,loss\n1,2\n")) is False
    assert driver.reports() == []
