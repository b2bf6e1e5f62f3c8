"""Promise 5 before money is spent: what a dataset is, and what is wrong with it."""

import io
import json

import pytest

from towline.dataset.check import check
from towline.dataset.pictures import judge
from towline.transfer.scan import scan

PNG = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\0\0\0\0:~\x9bU\0\0\0\nIDATx\x9cc`\0\0\0\2\0\1H\xaf\xa4q"
    b"\0\0\0\0IEND\xaeB`\x82"
)
BOX = "0 0.5 0.5 0.2 0.2\n"


@pytest.fixture
def put(tmp_path):
    def put(**files):
        for path, content in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return put


def look(folder, recipe=None, **settings):
    return check(scan(folder), recipe, settings)


def texts(report):
    return " | ".join(map(str, report.findings))


def yolo(**more):
    files = {"data.yaml": "train: images/train\nval: images/val\nnames: [box, disc]\n"}
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            files[f"images/{split}/{number}.png"] = PNG
            files[f"labels/{split}/{number}.txt"] = BOX + "1 0.1 0.1 0.1 0.1\n"
    return {**files, **more}


# -- YOLO -------------------------------------------------------------------------------------------


def test_a_sound_yolo_dataset_is_counted_by_split_and_class(put):
    report = look(put(**yolo()), "yolo")
    assert (report.kind, report.task, report.classes) == ("yolo", "detect", ["box", "disc"])
    assert report.findings == []
    assert report.splits == {
        "train": {"pictures": 4, "without_labels": 0, "classes": {"box": 4, "disc": 4}},
        "val": {"pictures": 2, "without_labels": 0, "classes": {"box": 2, "disc": 2}},
    }


@pytest.mark.parametrize(
    ("path", "base"),
    [("/content/drive/shapes/images/train", "data.yaml"), ("../images/train", "data.yaml"),
     ("C:\\data\\shapes\\images\\train", "data.yaml"), ("./images/train/", "data.yaml"),
     ("images/train", "conf/data.yaml")],
)  # fmt: skip
def test_paths_of_another_machine_are_found_by_their_ends(put, path, base):
    files = yolo()
    del files["data.yaml"]
    files[base] = f"path: /nowhere\ntrain: {path}\nval: images/val\nnames: {{0: box, 1: disc}}\n"
    assert look(put(**files), "yolo").splits["train"]["pictures"] == 4


def test_a_path_that_is_nowhere_is_fatal_and_names_file_and_line(put):
    files = yolo(**{"data.yaml": "names: [box, disc]\nval: images/val\ntrain: imgs/trian\n"})
    (fatal,) = look(put(**files), "yolo").fatal
    assert str(fatal) == "data.yaml:3: train: imgs/trian is not in the dataset"
    assert fatal.hint


def test_folders_without_data_yaml_and_without_val_are_enough(put):
    files = {f"images/{n}.jpg": b"\xff\xd8\xff" + b"0" * 99 + b"\xff\xd9" for n in range(3)}
    report = look(put(**files, **{f"labels/{n}.txt": "2 0.5 0.5 1 1\n" for n in range(3)}), "yolo")
    assert report.fatal == []
    assert report.classes == ["class0", "class1", "class2"]
    assert any("no val split" in note for note in report.notes)
    assert "no object to train on of class0, class1" in texts(report)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("7 0.5 0.5 0.1 0.1", "class 7 is not among the 2 classes"),
        ("-1 0.5 0.5 0.1 0.1", "the class is -1"),
        ("0.5 0.5 0.5 0.1 0.1", "the class is 0.5"),
        ("0 1.5 0.5 0.1 0.1", "from 0 to 1"),
        ("0 nan 0.5 0.1 0.1", "from 0 to 1"),
        ("0 120 88 40 40", "from 0 to 1"),
        ("0 0.5 0.5 0.1", "4 numbers, not 5"),
        ("0", "1 numbers, not 5"),
        ("1e300 0.5 0.5 0.1 0.1", "higher than any dataset has"),
        ("box 0.5 0.5 0.1 0.1", "not all of it are numbers"),
        ("\udcff\udcfe", "not all of it are numbers"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_file_and_line(put, line, words):
    bad = BOX.encode() + line.encode("utf-8", "surrogateescape")
    report = look(put(**yolo(**{"labels/train/1.txt": bad})), "yolo")
    assert report.fatal == []
    assert words in texts(report)
    assert "labels/train/1.txt:2: " in texts(report)


def test_outlines_make_it_segment_and_kpt_shape_makes_it_pose(put):
    outline = "0 0.1 0.1 0.5 0.1 0.5 0.5\n"
    files = yolo(**{f"labels/train/{n}.txt": outline for n in range(4)})
    assert look(put(**files), "yolo").task == "segment"
    files["data.yaml"] += "kpt_shape: [2, 3]\n"
    points = "0 0.5 0.5 0.2 0.2 0.1 0.1 2 0.2 0.2 1\n"
    files |= {f"labels/train/{n}.txt": points for n in range(4)}
    report = look(put(**files), "yolo")
    assert report.task == "pose"
    assert "labels/train" not in texts(report)


def test_pictures_without_labels_are_a_warning_and_all_of_them_are_fatal(put):
    files = yolo()
    del files["labels/train/2.txt"]
    report = look(put(**files), "yolo")
    assert "train: 1 of 4 pictures have no label file" in texts(report)
    assert report.fatal == []


def test_a_dataset_without_any_label_is_fatal(put):
    files = {k: v for k, v in yolo().items() if not k.startswith("labels/train")}
    report = look(put(**files), "yolo")
    assert "none of the 4 training pictures has labels" in str(report.fatal[0])
    assert "labels/train/0.txt" in report.fatal[0].hint


def test_thousands_of_bad_lines_are_three_and_a_count(put):
    report = look(put(**yolo(**{"labels/train/0.txt": BOX + "9 1 1 1 1\n" * 50})), "yolo")
    assert "47 more label lines that can't be used" in texts(report)
    assert len(report.findings) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [("train: [\nnames: x", "data.yaml:2: not valid YAML"), ("- names", "must be a mapping"),
     ("train: images/train\nval: images/val\nnc: 3\nnames: [a, b]\n", "nc is 3, but there are 2 names"),
     ("train: images/train\nval: images/val\nnames: {a: b}\n", "names must be a list"),
     ("train: images/train\nval: images/val\nnc: 10000000000\n", "not a number of classes"),
     (b"names: \xff\xfe", "not valid YAML")],
)  # fmt: skip
def test_a_data_yaml_that_says_nothing_sound_is_fatal(put, text, words):
    assert words in str(look(put(**yolo(**{"data.yaml": text})), "yolo").fatal[0])


# -- class folders ----------------------------------------------------------------------------------


def test_class_folders_are_counted_split_or_not(put):
    files = {f"{name}/{n}.png": PNG for name in ("cat", "dog") for n in range(3)}
    report = look(put(**files), "image")
    assert (report.kind, report.classes, report.findings) == ("classes", ["cat", "dog"], [])
    assert report.splits == {"train": {"pictures": 6, "classes": {"cat": 3, "dog": 3}}}


def test_a_split_is_seen_also_below_one_more_folder(put):
    files = {f"pets/{split}/{name}/1.png": PNG for split in ("train", "valid") for name in "ab"}
    report = look(put(**files), "image")
    assert {split: row["pictures"] for split, row in report.splits.items()} == {
        "train": 2,
        "val": 2,
    }


def test_empty_single_and_strange_classes_are_warnings(put):
    files = {"train/a/1.png": PNG, "train/b/1.png": PNG, "train/b/2.png": PNG, "val/c/1.png": PNG}
    folder = put(**files)
    (folder / "train" / "none").mkdir()
    found = texts(look(folder, "image"))
    assert "class folders without a picture: none" in found
    assert "one picture only to train on: a" in found
    assert "val has classes that train has not: c" in found


def test_one_class_is_fatal(put):
    report = look(put(**{"cat/1.png": PNG, "cat/2.png": PNG}), "image")
    assert "two are needed" in str(report.fatal[0])


# -- other kinds ------------------------------------------------------------------------------------


def test_coco_annotations_are_counted_and_lost_pictures_named(put):
    said = {
        "images": [{"file_name": "a.png"}, {"file_name": "gone.png"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"category_id": 1}, {"category_id": 1}, {"category_id": 9}],
    }
    report = look(put(**{"a.png": PNG, "instances_train.json": json.dumps(said)}))
    assert report.kind == "coco"
    assert report.splits["train"] == {"pictures": 2, "classes": {"cat": 2, "dog": 0}}
    assert "1 of 2 pictures are not there, such as gone.png" in texts(report)


ROWS = "".join(f"{n},{n % 2},{'yes' if n % 3 else 'no'}\n" for n in range(10))


def test_a_table_shows_its_target_and_classes(put):
    report = look(put(**{"t.csv": "a,b,bought\n" + ROWS}), "tabular")
    assert report.kind == "table"
    assert report.splits == {"train": {"rows": 10, "classes": {"yes": 6, "no": 4}}}
    assert any("'bought'" in note for note in report.notes)


@pytest.mark.parametrize(
    ("content", "target", "words"),
    [
        ("a,b,bought\n" + ROWS, "bouht", "no column 'bouht'"),
        ("a,b,bought\n1,2,3\n", "auto", "too few"),
        ("a,b,y\n" + "1,2,same\n" * 9, "auto", "one value only"),
        ("", "auto", "empty"),
        (b"a,b\n\0\0\1,\2", "auto", "no text"),
    ],
)
def test_a_table_that_cannot_be_trained_on_is_fatal(put, content, target, words):
    report = look(put(**{"t.csv": content, "more.txt": "x"}), "tabular", target=target)
    assert words in str(report.fatal[0])
    assert report.fatal[0].hint


def test_uneven_rows_are_named(put):
    report = look(put(**{"t.csv": "a,b,y\n" + ROWS + "1,2\n"}), "tabular")
    assert "t.csv:12: not 3 cells" in texts(report)


@pytest.mark.parametrize(
    ("files", "recipe", "better"),
    [
        ({"t.csv": "a,b,y\n" + ROWS}, "yolo", "tabular"),
        ({"t.csv": "a,b,y\n" + ROWS}, "image", "tabular"),
        (yolo(), "image", "yolo"),
        ({"a/1.png": PNG, "b/1.png": PNG}, "tabular", "image"),
        ({"a.jsonl": '{"text": "x", "label": 1}\n'}, "yolo", "text"),
    ],
)
def test_data_of_another_kind_is_fatal_and_the_hint_says_which_framework(
    put, files, recipe, better
):
    report = look(put(**files), recipe)
    assert f"--framework {better}" in report.fatal[0].hint
    assert look(put(**files), better).fatal == []


def test_a_table_of_texts_may_have_labels_and_need_not(put):
    rows = "".join(f"{'a long sentence ' * 20_000 * (n == 1)}{n},{n % 2}\n" for n in range(6))
    report = look(put(**{"t.csv": "text,label\n" + rows}), "text")
    assert (report.kind, report.fatal) == ("text", [])
    assert report.splits["train"] == {"rows": 6, "classes": {"0": 3, "1": 3}}
    assert look(put(**{"t.csv": "text\nhello\nworld\n"}), "text").fatal == []
    assert look(put(**{"t.csv": "text\nhello\n"}), "text").fatal


def test_for_a_command_of_the_user_s_own_nothing_is_fatal(put):
    report = look(put(**yolo(**{"data.yaml": "train: nowhere\nnames: [a]\n"})))
    assert report.fatal == []
    assert "nowhere is not in the dataset" in texts(report)


def test_files_of_no_known_kind_are_left_alone(put):
    report = look(put(**{"a.bin": b"\0"}))
    assert (report.kind, report.findings) == ("files", [])


# -- pictures ---------------------------------------------------------------------------------------


def picture(kind):
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (40, 30), (9, 200, 30)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_whole_pictures_pass_and_cut_ones_do_not(kind):
    whole = picture(kind)
    assert judge(whole[:64], whole[-512:], len(whole)) is None
    if kind not in {"PPM", "TIFF"}:
        cut = whole[: len(whole) * 2 // 3]
        assert judge(cut[:64], cut[-512:], len(cut)) == "the picture is cut off"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"<html>404</html>", "it is no picture (it begins with '<html>404</html>')"),
     (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"), (b"\0\0\0\0", "unknown first bytes")],
)  # fmt: skip
def test_what_is_no_picture_is_named(put, content, words):
    files = {f"{name}/{n}.png": PNG for name in "ab" for n in range(2)}
    found = texts(look(put(**files, **{"a/9.png": content, "b/8.jpg": b""}), "image"))
    assert words in found
    assert "b/8.jpg: the file is empty" in found


def test_not_one_whole_picture_is_fatal(put):
    files = {
        f"{name}/{n}.png": b"version https://git-lfs.github.com\n" for name in "ab" for n in "12"
    }
    (fatal,) = look(put(**files), "image").fatal
    assert "git lfs pull" in fatal.hint
