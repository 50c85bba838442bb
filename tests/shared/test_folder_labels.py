"""CSV files of labels in the forms that people write; faults named with the line or the file."""

import os

import pytest

from shared.datasets import DatasetError
from shared.datasets.file_names import positions
from shared.datasets.folder_labels import read

NAMES = ["a/1.png", "a/2.png", "b/2.png", "c d.jpg"]


@pytest.mark.parametrize(
    "text",
    [
        "filename,label\na/1.png,cat\nc d.jpg,dog\n",
        "\ufefffilename,label\r\na/1.png,cat\r\nc d.jpg,dog\r\n\r\n",
        "a/1.png,cat\nc d.jpg,dog",
        "Label;File;more\ncat;a/1.png;9\ndog;c d.jpg;9\n",
        'path\tclass\n"a/1.png"\t"cat"\nc d.jpg\tdog\n',
        ",image,target\n0,1.png,cat\n1,c d.jpg,dog\n",
        "/elsewhere/set/a/1.png,cat\n..\\set\\c d.jpg,dog\n",
        "1.png cat\nc d.jpg dog\n",
        "id,breed\na/1,cat\nc d,dog\n",
        "class,picture\ncat,a/1\ndog,c d\n",
        "image_path,split,label\na/1.png,train,cat\nc d.jpg,train,dog\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_forms(tmp_path, text, encoding):
    marked = text.removeprefix("\ufeff") if encoding == "utf-16" else text
    (tmp_path / "l.csv").write_bytes(marked.encode(encoding))
    found = read(tmp_path / "l.csv", NAMES, [])
    assert found.rows.tolist() == [0, 3]
    assert (found.labels.tolist(), found.class_names) == ([0, 1], ("cat", "dog"))


@pytest.mark.parametrize(
    ("labels", "folders", "expected", "names"),
    [
        (("dog", "cat"), ["cat", "cow", "dog"], [2, 0], ("cat", "cow", "dog")),
        (("dog", "emu"), ["cat", "cow", "dog"], [0, 1], ("dog", "emu")),
        (("1", "0"), ["cat", "dog"], [1, 0], ("cat", "dog")),
        (("1.0", "0.0"), [], [1, 0], ("0", "1")),
        (("2", "0"), ["cat", "dog"], [2, 0], ("0", "1", "2")),
        (("10", "2"), ["0", "10", "2"], [1, 2], ("0", "10", "2")),  # names of folders
        (("1", "x"), [], [0, 1], ("1", "x")),
    ],
)
def test_numbers_and_names(tmp_path, labels, folders, expected, names):
    (tmp_path / "l.csv").write_text("".join(f"{n},{x}\n" for n, x in zip(NAMES, labels)))
    found = read(tmp_path / "l.csv", NAMES, folders)
    assert (found.labels.tolist(), found.class_names) == (expected, names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("filename,label\n", "lists no picture"),
        ("what,ever\na/1.png,1\n", "begins with 'what,ever': expected the columns filename,label"),
        ("a/1.png,cat,7\n", "3 cells and no names: begin with filename,label"),
        ("filename,label\na/1.png\n", "line 2: 'a/1.png', expected 2 cells"),
        ("filename,label\na/1.png,cat\nb/2.png,\n", "line 3: 'b/2.png,', expected"),
        ("filename,label\na/1.png,cat\n\nb/2.png,cat\n", "line 3"),
        ("filename,label\n9.png,1\n2.png,1\n", r"2 of 2 pictures, such as 9\.png, 2\.png, are not"),
        ("filename,label\na/1.png,1\n1.png,1\n", "names a/1.png twice"),
        ("filename,label\na/1.png,123456789\n", "label 123456789 is no number of a class"),
        ("a/1.png,2\nb/2.png,-1\n", "label -1 is no number of a class, which begin at 0"),
        ('filename,label\n"a/1.png,1\n', "not a readable list of labels"),
    ],
)
def test_faults(tmp_path, text, message):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(DatasetError, match=f"l.csv.*{message}"):
        read(tmp_path / "l.csv", NAMES, [])


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "l.csv").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (*(tmp_path / f"{name}.csv" for name in ("l", "nothing", "pipe")), tmp_path):
        with pytest.raises(DatasetError, match="not a readable list of labels"):
            read(path, NAMES, [])


def test_positions():
    assert positions(["x/a/2.png", "2.png", "", "a\\1.png"], NAMES).tolist() == [1, -1, -1, 0]
    assert positions(["train/a.png"], ["train/a.png", "train/b.png"]).tolist() == [0]
    assert positions(["a.png"], []).tolist() == [-1]
    one, two = "\u00e9.png", "e\u0301.png"  # e with an accent, as one character and as two
    assert positions([one, two, "e.png"], [two, "b.png"]).tolist() == [0, 0, -1]
    assert positions([two, one], [one, two]).tolist() == [1, 0]
