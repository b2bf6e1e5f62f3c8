"""A marker gets written whatever the disk says, and only ours are read."""

import json
import os

import pytest

from towline.onboard import markers

RUN = "abcdefghij"


@pytest.fixture(autouse=True)
def _nothing_left():
    yield
    markers.forget(RUN)
    for folder in markers._ELSEWHERE:
        if os.path.isdir(folder):
            assert not [name for name in os.listdir(folder) if RUN in name]


def fill(machine):
    with open(machine.root / "big", "wb", 0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError:
            return


def test_room_set_aside_is_used_on_a_full_disk_again_and_again(here, small_disk):
    small_disk(here)
    path = str(here.control / "m.json")
    markers.save(path, RUN, {"number": 0})
    markers.reserve(path)
    fill(here)
    for number in range(5):
        markers.save(path, RUN, {"number": number})
        assert json.loads((here.control / "m.json").read_text()) == {"number": number}
        assert markers.newest(path, RUN) == {"number": number}


def test_without_room_it_goes_to_another_disk_and_is_found_there(here, small_disk):
    small_disk(here)
    path = str(here.control / "m.json")
    fill(here)
    markers.save(path, RUN, {"number": 1})
    assert not os.path.exists(path)
    assert [name for name in os.listdir(here.control) if name.startswith("m.json")] == []
    assert markers.newest(path, RUN) == {"number": 1}
    (here.root / "big").unlink()
    markers.save(path, RUN, {"number": 2})
    assert [one["number"] for one in markers.found(path, RUN)] == [2]


def test_of_several_the_newest_counts_and_garbage_is_passed_over(tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setattr(markers, "_ELSEWHERE", (str(other), str(tmp_path / "no such folder")))
    path = str(tmp_path / "m.json")
    markers.save(path, RUN, {"number": 1})
    elsewhere = other / f"towline-{os.getuid()}-{RUN}-m.json"
    elsewhere.write_text('{"number": 2}')
    os.utime(path, (1, 1))
    assert [one["number"] for one in markers.found(path, RUN)] == [2, 1]
    elsewhere.write_text("[")
    assert markers.newest(path, RUN) == {"number": 1}


def test_a_link_or_another_users_file_is_no_marker(tmp_path, monkeypatch):
    monkeypatch.setattr(markers, "_ELSEWHERE", (str(tmp_path / "tmp"),))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "theirs").write_text('{"number": 1}')
    place = tmp_path / "tmp" / f"towline-{os.getuid()}-{RUN}-m.json"
    place.symlink_to(tmp_path / "theirs")
    assert markers.newest(str(tmp_path / "m.json"), RUN) is None
    if os.geteuid() == 0:
        place.unlink()
        place.write_text('{"number": 1}')
        os.chown(place, 65534, -1)
        assert markers.newest(str(tmp_path / "m.json"), RUN) is None


def test_of_a_run_that_was_left_nothing_is_written_anywhere(tmp_path):
    with pytest.raises(OSError):
        markers.save(str(tmp_path / "gone" / "m.json"), RUN, {"number": 1})
    markers_there = [one for one in markers._others("m.json", RUN) if os.path.exists(one)]
    assert markers_there == []
