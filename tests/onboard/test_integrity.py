"""Promise 3: a model that is cut off, empty or overwritten is told from a whole one by its bytes."""

import os
import pickle
import struct
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.onboard.model_files import DATA, EXACT, MADE, TREES, safetensors, torch_like
from towline.onboard import integrity

_MAGIC_BYTES = 16
RECORDED = sorted(path for path in DATA.glob("*") if path.suffix != ".md") if DATA.is_dir() else []


def checked(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return integrity.check(path)


@pytest.mark.parametrize("name", MADE)
def test_a_whole_file_of_each_format_is_known(tmp_path, name):
    content, verdict, kind = MADE[name]
    assert checked(tmp_path, name, content) == [verdict, kind, ""]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_what_the_frameworks_themselves_wrote_is_not_damaged(path):
    verdict, kind, why = integrity.check(path)
    assert (verdict in {"whole", "plausible"}, why) == (True, "")
    assert kind


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_what_the_frameworks_wrote_is_found_out_when_cut_off(tmp_path, path):
    content = path.read_bytes()
    if integrity.check(path)[0] == "whole":
        missed = cuts_not_found(tmp_path / path.name, content)
        assert [length for length in missed if length > _MAGIC_BYTES] == []
    else:
        assert checked(tmp_path, path.name, content[: len(content) // 2])[0] != "whole"


def cuts_not_found(path, content):
    path.write_bytes(content)
    missed = []
    for length in range(len(content) - 1, -1, -1):
        os.truncate(path, length)
        if integrity.check(path)[0] != "damaged":
            missed.append(length)
    return missed


@pytest.mark.parametrize("name", EXACT)
def test_every_truncation_is_found_out(tmp_path, name):
    content = MADE[name][0]
    missed = cuts_not_found(tmp_path / name, content)
    if name == "several.pkl":  # cut between two pickles, the first is one of its own right
        missed.remove(len(pickle.dumps(TREES, 4)))
    # a few bytes may be too few to tell a format by, and are then called unknown
    assert [length for length in missed if length > _MAGIC_BYTES] == []


@pytest.mark.parametrize("name", ["model.onnx", "packed.pkl.xz", "model.cbm", "ckpt-1.index"])
def test_a_file_that_lacks_its_end_is_found_out(tmp_path, name):
    content = MADE[name][0]
    for length in (len(content) - 1, len(content) * 2 // 3, 9):
        assert checked(tmp_path, name, content[:length])[0] == "damaged"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("best.pt", b"", "empty"),
        ("best.pt", b"P", "one byte"),
        ("best.pt", bytes(5000), "zero bytes"),
        ("model.keras", b"not an archive", "does not begin like one"),
        ("model.h5", torch_like(), "holds zip"),
        ("model.gguf", b"text", "does not begin like one"),
        ("model.safetensors", b"version https://git-lfs", "header is cut off"),
        ("model.safetensors", safetensors() + b"x", "too many"),
        ("model.json", b'{"learner": {', "no JSON"),
        ("config.json", b'{"model_type": ', "no JSON"),
        ("model.onnx", b"<html>Not Found</html>", ""),
    ],
)
def test_a_damaged_file_says_why(tmp_path, name, content, why):
    verdict, _kind, said = checked(tmp_path, name, content)
    assert verdict == "damaged"
    assert why in said


def test_an_archive_overwritten_in_its_middle_is_found_out(tmp_path):
    content = bytearray(torch_like())
    at = content.index(b"PK\x03\x04", 10)
    content[at : at + 4] = b"\0\0\0\0"
    assert "overwritten" in checked(tmp_path, "best.pt", bytes(content))[2]
    content = bytearray(torch_like())
    content[at + 60] ^= 1  # inside a content that carries its CRC
    assert checked(tmp_path, "best.pt", bytes(content))[0] == "damaged"


def test_a_new_beginning_over_an_old_end_is_found_out(tmp_path):
    """A save that was cut short left the tail of the larger file that stood there before."""
    old, new = torch_like(b"o" * 3000), torch_like(b"n" * 900)
    assert checked(tmp_path, "best.pt", new[:1500] + old[1500:])[0] == "damaged"


def test_an_archive_without_checksums_is_whole(tmp_path):
    """torch may be told to write none; the field then is zero."""
    content = bytearray(torch_like())
    start = 0
    while (at := content.find(b"PK\x01\x02", start)) >= 0:
        content[at + 16 : at + 20] = bytes(4)
        start = at + 4
    assert checked(tmp_path, "best.pt", bytes(content)) == ["whole", "zip", ""]


@pytest.mark.parametrize("name", ["best.pt", "weights.bin", "model.dat", "m.engine", "m.pkl"])
def test_a_format_that_is_not_known_is_not_called_damaged(tmp_path, name):
    assert checked(tmp_path, name, b"own format, version 1\n") == ["unknown", "", ""]


class Trap:
    """Would leave a mark when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_nothing_is_unpickled(tmp_path):
    mark = tmp_path / "executed"
    trap = pickle.dumps(Trap(mark))
    assert checked(tmp_path, "best.pkl", trap)[0] == "whole"
    with zipfile.ZipFile(tmp_path / "best.pt", "w") as archive:
        archive.writestr("best/data.pkl", trap)
    assert integrity.check(tmp_path / "best.pt")[0] == "whole"
    assert not mark.exists()
    pickle.loads(trap)
    assert mark.exists()


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(sorted(MADE)),
    st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=9)), max_size=4),
    st.integers(0, 5000),
    st.booleans(),
)
def test_no_content_breaks_the_check(tmp_path, name, patches, length, is_cut):
    content = bytearray(MADE[name][0])
    for at, data in patches:
        content[at : at + len(data)] = data
    verdict, _kind, why = checked(tmp_path, name, bytes(content[:length] if is_cut else content))
    assert verdict in {"whole", "plausible", "unknown", "damaged"}
    assert bool(why) == (verdict == "damaged")


@pytest.mark.parametrize(
    "content",
    [
        b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63),
        b"\x89HDF\r\n\x1a\n" + b"\xff" * 90,
        struct.pack("<Q", 2**63) + b"{}",
        b"{" + b"L" + struct.pack(">q", 2**62) + b"x",
        b"{" + b"[" * 500,
        b"\x1f\x8b" + b"\xff" * 50,
    ],
)
@pytest.mark.parametrize("suffix", [".gguf", ".h5", ".safetensors", ".ubj", ".pt", ".joblib"])
def test_lengths_that_lie_cost_nothing(tmp_path, content, suffix):
    assert checked(tmp_path, "model" + suffix, content)[0] in {"damaged", "unknown"}


# -- the verbs on the instance --------------------------------------------------------------------


def test_examine_checks_and_names_what_was_uploaded(machine):
    out = machine.root / "output"
    out.mkdir()
    code = machine.root / "code"
    code.mkdir()
    (out / "best.pt").write_bytes(torch_like())
    (out / "cut.pt").write_bytes(torch_like()[:-30])
    paths = [str(out / name) for name in ("best.pt", "cut.pt", "gone.pt")]
    answer = machine.ask("examine", paths=paths)
    assert answer["checks"][paths[0]] == ["whole", "zip", ""]
    assert answer["checks"][paths[1]][0] == "damaged"
    assert paths[2] not in answer["checks"]
    assert answer["uploaded"] == {}
