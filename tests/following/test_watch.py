"""Watch rules speak up once, with facts, and end nothing."""

import pytest

from towline.following.watch import Watcher


def gpu(busy, memory_mib=40_000.0):
    return {"index": 0, "busy": busy, "memory_mib": memory_mib, "memory_total_mib": 80_000.0}


def sample(**more):
    return {
        "at": 0.0, "cpu": 0.02, "cpus": 8, "memory_bytes": 1 << 30, "memory_total_bytes": 8 << 30,
        "disk_free_bytes": 50 << 30, "disk_total_bytes": 99 << 30, "shm_free_bytes": 1 << 30,
        "oom_kills": 0, "gpus": [], "gpu_error": None, **more,
    }  # fmt: skip


@pytest.fixture
def watch(driver):
    return Watcher(driver.context())


def silence(driver, watch, seconds, busy=None, before=0):
    """Let time pass in which the log says nothing."""
    for _ in range(0, seconds, 5):
        driver.clock.advance(5)
        watch.sample(sample(gpus=[] if busy is None else [gpu(busy)]))
        watch.silent(before + seconds)


def test_a_silent_training_with_an_idle_gpu_has_stalled(driver, watch):
    silence(driver, watch, 120, busy=0.0)
    (note,) = driver.notes()
    assert note.startswith("the training has printed nothing for 1 min 0")
    assert "GPU 0 is idle and holds 41.9 GB" in note
    assert "2% busy" in note
    assert driver.store.facts(driver.run.id)["stalled"]["text"] == note


def test_a_silent_training_whose_gpu_works_has_not(driver, watch):
    silence(driver, watch, 600, busy=0.9)
    assert driver.notes() == []


def test_a_gpu_that_goes_idle_is_given_the_whole_time(driver, watch):
    silence(driver, watch, 600, busy=0.9)
    silence(driver, watch, 50, busy=0.0, before=600)
    assert driver.notes() == []
    silence(driver, watch, 20, busy=0.0, before=650)
    assert len(driver.notes()) == 1


def test_without_a_gpu_the_log_alone_tells(driver, watch):
    silence(driver, watch, 120)
    assert len(driver.notes()) == 1


def test_a_report_in_a_side_file_is_a_sign_of_life(driver, watch):
    for _ in range(10):
        silence(driver, watch, 30)
        watch.report({"metrics": {"loss": 1.0}, "epoch": 1})
    assert driver.notes() == []


def test_a_stall_that_ends_is_over_and_the_next_is_said_again(driver, watch):
    silence(driver, watch, 120)
    watch.alive()
    assert driver.store.facts(driver.run.id)["stalled"] is None
    silence(driver, watch, 120)
    assert len(driver.notes()) == 2


def test_the_next_driver_does_not_say_it_again(driver, watch):
    silence(driver, watch, 120)
    watch._ctx.journal.release_lease()
    watch = Watcher(driver.context())
    silence(driver, watch, 120)
    assert len(driver.notes()) == 1


def test_a_loss_that_is_not_a_number_is_said_once(driver, watch):
    watch.report({"metrics": {"val_acc": None}, "epoch": 1})
    assert driver.notes() == []
    for epoch in (2, 3):
        watch.report({"metrics": {"train/box_loss": None}, "epoch": epoch})
    (note,) = driver.notes()
    assert "train/box_loss is not a number" in note
    assert "epoch 2" in note


def test_a_disk_and_a_memory_that_run_out_are_said_once(driver, watch):
    for _ in range(3):
        watch.sample(sample(disk_free_bytes=300_000_000, memory_bytes=8 << 30))
    assert [note.partition(" has ")[0] for note in driver.notes()] == [
        "the instance's disk", "the instance's memory is nearly used up: 8.6 GB of 8.6 GB",
    ]  # fmt: skip


def test_the_first_count_of_kills_and_the_most_memory_are_kept(driver, watch):
    watch.sample(sample(oom_kills=5, memory_bytes=7 << 30))
    watch._ctx.journal.release_lease()
    watch = Watcher(driver.context())
    watch.sample(sample(oom_kills=6))
    machine = driver.store.facts(driver.run.id)["machine"]
    assert (machine["first_oom_kills"], machine["oom_kills"]) == (5, 6)
    assert machine["most_memory_bytes"] == 7 << 30


def test_what_can_not_be_read_is_no_trouble(driver, watch):
    unknown = dict.fromkeys(sample()) | {"gpus": [gpu(None, None)], "gpu_error": None}
    for _ in range(3):
        watch.sample(dict(unknown))
    silence(driver, watch, 5)
    watch.sample(dict(unknown) | {"gpu_error": "Unable to determine the device handle"})
    assert driver.notes() == ["the GPUs can't be asked: Unable to determine the device handle"]
