"""Noise files as people have them: shapes of files that occur, and what is taken from them."""

from pathlib import Path

import numpy as np
import pytest
from found_files import lines, objects, save

from shared import datasets, noise
from shared.__main__ import main
from shared.datasets.image_data import ImageData
from shared.formats import external, noise_file
from shared.formats.alignment import aligned, labels_for
from shared.formats.external import read_any, write_any
from shared.formats.noise_file import NoiseFileError

REPOSITORY = Path(__file__).resolve().parents[2]
CLEAN = np.arange(300) % 10
NOISY = noise.symmetric(CLEAN, 0.3, 10, np.random.default_rng(0), include_true_class=False)
MATRIX = np.eye(10, dtype=np.float32)


NAMES = [f"train/{label}/img {row}.jpg" for row, label in enumerate(CLEAN)]


# ---- what is read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.npy", objects({"noise_label": NOISY.tolist()})),
        ("b.npy", np.array(NOISY.tolist(), dtype=object)),
        ("c.npy", NOISY[:, None]),
        ("a.json", {"noise_labels": NOISY}),
        ("a.pkl", NOISY.tolist()),
        ("b.pkl", NOISY),
        ("c.pkl", {"labels": NOISY.astype(np.int32)}),
        ("a.pt", {"noisy_labels": NOISY, "T": MATRIX, "noise_rate": 0.3}),
        ("a.npz", {"noisy": NOISY[:, None], "T": MATRIX, "rate": 0.3}),
        ("b.npz", {"mine": NOISY, "T": MATRIX, "rate": 0.3}),
        ("b.pt", {"mine": NOISY, "T": MATRIX, "rate": 0.3}),
        ("d.pkl", {"mine": NOISY, "T": MATRIX, "rate": 0.3}),
        ("a.txt", lines(NOISY, end="\n")),
        ("b.txt", lines(NOISY).replace("\n", "\r\n")),
        ("c.csv", lines(NOISY, head="label")),
        ("d.csv", lines([f"{label}.0" for label in NOISY], head='"label"')),
        ("d.txt", lines([f"{label:.18e}" for label in NOISY], head="# label")),  # numpy.savetxt
        ("e.txt", lines(NOISY, head="# labels of mine, made in May")),
        ("e.pkl", tuple(NOISY.tolist())),
        ("f.pkl", {b"noisy": NOISY, b"rate": 0.3}),  # Python 2
        ("e.csv", b"\xff\xfe" + lines(NOISY, head="label").encode("utf-16-le")),
        ("f.csv", b"\xef\xbb\xbf" + lines(range(300), NOISY, head="index,label").encode()),
    ],
)
def test_labels_alone(tmp_path, name, value):
    found = read_any(save(tmp_path / name, value))
    np.testing.assert_array_equal(found.noisy_labels, NOISY)
    assert found.clean_labels is None


@pytest.mark.parametrize(
    "clean", ["clean", "clean_labels", "targets", "y_true", "gt", "Clean Label"]
)
@pytest.mark.parametrize("ending", [".npz", ".pt", ".pkl", ".json", ".csv"])
def test_clean_labels_under_their_usual_names(tmp_path, clean, ending):
    value = {clean: CLEAN, "noisy": NOISY}
    path = save(
        tmp_path / f"a{ending}",
        lines(*value.values(), head=",".join(value)) if ending == ".csv" else value,
    )
    found = read_any(path)
    np.testing.assert_array_equal(found.noisy_labels, NOISY)
    np.testing.assert_array_equal(found.clean_labels, CLEAN)
    assert found.header.measured_rate == (NOISY != CLEAN).mean()


@pytest.mark.parametrize(
    ("noisy", "clean"),
    [
        *(("labels", "clean_labels"), ("targets", "gt"), ("label_noisy", "label"), ("worse", "y")),
        *(("labels", "labels_clean"), ("y_train", "y_train_clean")),
    ],
)
def test_which_of_two_columns_is_clean(tmp_path, noisy, clean):
    found = read_any(save(tmp_path / "a.npz", {noisy: NOISY, clean: CLEAN}))
    np.testing.assert_array_equal(found.noisy_labels, NOISY)
    np.testing.assert_array_equal(found.clean_labels, CLEAN)


def test_clean_labels_are_not_taken_for_noisy_ones_that_cannot_be_read(tmp_path):
    values = {"clean": CLEAN, "noisy": NOISY.astype(float)}
    with pytest.raises(NoiseFileError, match="holds float64"):
        read_any(save(tmp_path / "a.npz", values))
    cells = ["", *NOISY[1:]]
    with pytest.raises(NoiseFileError, match="line 2 has ''"):
        read_any(save(tmp_path / "a.csv", lines(CLEAN, cells, head="clean,noisy")))
    with pytest.raises(NoiseFileError, match=r"among clean .*, mine \(no labels\)"):
        read_any(save(tmp_path / "b.csv", lines(CLEAN, cells, head="clean,mine")))


def test_two_columns_that_may_both_be_meant_are_asked_about(tmp_path):
    with pytest.raises(
        NoiseFileError, match=r"several columns of labels: choose .*labels, targets"
    ):
        read_any(save(tmp_path / "a.npz", {"labels": NOISY, "targets": CLEAN}))


@pytest.mark.parametrize(
    "text",
    [
        lines(CLEAN, NOISY, head="label,label_noisy", end="\n"),
        lines(CLEAN, NOISY, head="label\tlabel_noisy", mark="\t"),
        lines(CLEAN, NOISY, head="label; label_noisy", mark="; "),
        lines(range(300), CLEAN, NOISY, head=",label,label_noisy"),
        lines(range(300), CLEAN, NOISY, head="Unnamed: 0,label,label_noisy"),
        lines(range(300), CLEAN, NOISY, head="\tlabel\tlabel_noisy", mark="\t"),
        lines([f'"{label}"' for label in CLEAN], NOISY, head='"label","label_noisy"'),
        lines([f"{label}.0" for label in CLEAN], NOISY, head="label,label_noisy"),
        lines(CLEAN, NOISY, head="# label,label_noisy"),  # numpy.savetxt
        lines(CLEAN, NOISY, [""] * 300, head="label,label_noisy,"),  # a spreadsheet's empty column
        lines([f"img_{row}" for row in range(300)], CLEAN, NOISY, head=",label,label_noisy"),
    ],
)
def test_tables_of_text(tmp_path, text):
    found = read_any(save(tmp_path / "a.csv", text))
    np.testing.assert_array_equal(found.noisy_labels, NOISY)
    np.testing.assert_array_equal(found.clean_labels, CLEAN)
    assert found.indices is None


def test_flags_beside_labels_are_no_labels(tmp_path):
    wrong = (CLEAN != NOISY).astype(int)
    path = save(tmp_path / "a.csv", lines(NOISY, wrong, head="label,is_noisy"))
    np.testing.assert_array_equal(read_any(path).noisy_labels, NOISY)
    for name in ("is_noisy", "noise_mask", "split", "image_id"):
        path = save(tmp_path / "a.npz", {"label": NOISY, name: wrong})
        np.testing.assert_array_equal(read_any(path).noisy_labels, NOISY)


def test_flags_may_have_come_through_a_spreadsheet(tmp_path):
    flags = ["TRUE" if one == 3 else "FALSE" for one in CLEAN]
    found = read_any(save(tmp_path / "a.csv", lines(CLEAN, flags, head="label,label_noisy")))
    np.testing.assert_array_equal(found.open_set, CLEAN == 3)


@pytest.mark.parametrize("name", ["is_open_set", "is_ood", "open_set_mask"])
def test_flags_of_replaced_images_are_not_left_out(tmp_path, name):
    path = save(tmp_path / "a.csv", lines(CLEAN, CLEAN == 3, head=f"label,{name}"))
    np.testing.assert_array_equal(read_any(path).open_set, CLEAN == 3)


def test_other_flags_can_be_chosen(tmp_path):
    path = save(tmp_path / "a.csv", lines(CLEAN, CLEAN == 3, head="label,flag"))
    assert read_any(path).open_set is None
    np.testing.assert_array_equal(read_any(f"{path}:flag").open_set, CLEAN == 3)


@pytest.mark.parametrize("ending", [".json", ".pkl", ".pt"])
def test_labels_with_their_indices(tmp_path, ending):
    rows = np.random.default_rng(1).permutation(1000)[:300]
    value = [NOISY.tolist(), rows.tolist()]
    found = read_any(save(tmp_path / f"a{ending}", value))
    np.testing.assert_array_equal(found.noisy_labels, NOISY)
    np.testing.assert_array_equal(found.indices, rows)
    text = lines(rows, NOISY, head="index,label")
    np.testing.assert_array_equal(read_any(save(tmp_path / "a.csv", text)).indices, rows)


@pytest.mark.parametrize("name", ["indices", "index", "sample_index"])
@pytest.mark.parametrize("ending", [".npz", ".json", ".pkl", ".pt"])
def test_a_column_may_say_which_samples_the_others_are_of(tmp_path, ending, name):
    rows = np.random.default_rng(1).permutation(1000)[:300]
    value = {"noisy_labels": NOISY, "clean_labels": CLEAN, name: rows}
    path = save(tmp_path / f"a{ending}", value)
    assert external.columns(path) == ["noisy_labels", "clean_labels"]
    found = read_any(path)
    np.testing.assert_array_equal(found.noisy_labels, NOISY)
    np.testing.assert_array_equal(found.clean_labels, CLEAN)
    np.testing.assert_array_equal(found.indices, rows)


@pytest.mark.parametrize("more", [{"source": "images"}, {"categories": ["cat", "dog"]}])
def test_an_object_with_a_word_of_coco_may_hold_labels(tmp_path, capsys, more):
    path = save(tmp_path / "a.json", {"noisy_labels": NOISY, **more})
    assert main(["noise", "info", str(path)]) == 0
    assert "300 (assumed" in capsys.readouterr().out
    assert read_any(path).noisy_labels.tolist() == NOISY.tolist()


def test_only_the_chosen_column_is_read(tmp_path):
    path = save(tmp_path / "a.npz", {"noisy": NOISY, "text": np.array(["x"]), "T": MATRIX})
    assert external.columns(path) == ["noisy"]
    for column in ("text", "T"):
        with pytest.raises(NoiseFileError, match="not integers"):
            read_any(path, column)
    with pytest.raises(NoiseFileError, match=r"no column 'none'.*among noisy"):
        read_any(path, "none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,label_noisy\n1,2\n\n3,4\n", "line 3 is blank"),
        ("label,label_noisy\n1,2\n3,two\n", "line 3 has 'two'"),
        ("label,label\n1,2\n", "names 'label' twice"),
        ("1,2,3\n4,5,6\n", "3 cells and no names"),
        ("1,2\n4,5\n", "2 cells and no names"),
        ("0 0 1 9 4\n", "more than one label: write one label a line"),
        ("label\n1.5e+00\n", "line 2 has '1.5e.00' where a label"),
        ("label,noisy\n1,True\n2,1\n", "line 2 has 'True'"),
        ('label,noisy\n1,"2\n', "not a table"),
        ("a\tb\nx\ty\n", "expected label,label_noisy"),
        ("3\nfour\n5\n", "line 2 has 'four'"),
        ('["3", "4"]', "item 0 of the list is '3', not a label"),
    ],
)
def test_text_that_is_not_labels_is_refused(tmp_path, text, message):
    with pytest.raises(NoiseFileError, match=message):
        read_any(save(tmp_path / "a.csv", text))


# ---- by file name


@pytest.mark.parametrize(
    "text",
    [
        lines(NAMES, NOISY, mark=" "),
        lines(NAMES, NOISY, mark="\t"),
        lines([f"./{name}" for name in NAMES], NOISY, head="filename,label"),
        lines([name.rpartition("/")[2] for name in NAMES], NOISY, head="img_path,label"),
        lines([f"data/set/{name}" for name in NAMES], CLEAN, NOISY, head="file,label,noisy"),
    ],
)
def test_labels_by_file_name(tmp_path, text):
    order = np.random.default_rng(2).permutation(300)
    names = tuple(np.array(NAMES)[order])
    data = ImageData("folder", None, CLEAN[order], None, None, tuple("0123456789"), None, names)
    found = read_any(save(tmp_path / "a.txt", text))
    np.testing.assert_array_equal(aligned(found, data).indices, np.argsort(order))
    np.testing.assert_array_equal(aligned(found, data).noisy_labels, NOISY)
    with pytest.raises(NoiseFileError, match=r"--dataset, --data_path"):
        write_any(tmp_path / "b.npz", found)
    known = {"dataset": "folder", "clean_labels": CLEAN, "num_classes": 10}
    with pytest.raises(NoiseFileError, match=r"convert FILE OUT\.npz"):
        labels_for(found, **known)
    with pytest.raises(NoiseFileError, match=r"1 of 300 files .*img 0\.jpg, are not in"):
        labels_for(found, **known, names=[*NAMES[1:], "other.jpg"])


def test_a_path_may_have_commas_and_spaces_in_it(tmp_path):
    found = read_any(save(tmp_path / "a.txt", "0/a, b.jpg 3\n0/a;c d.jpg 4\n"))
    assert found.names == ("0/a, b.jpg", "0/a;c d.jpg")
    assert found.noisy_labels.tolist() == [3, 4]


def test_a_folder_of_pictures_is_labelled_by_file_name(tmp_path, capsys):
    from PIL import Image

    for split, name in (("train", "a"), ("train", "b"), ("test", "a")):
        for number in range(3):
            (tmp_path / split / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32)).save(tmp_path / split / name / f"{number}.png")
    save(tmp_path / "n.csv", "filename,label\na/1.png,1\nb/2.png,1\n")
    flags = ["--dataset", "folder", "--data_path", str(tmp_path)]
    out = str(tmp_path / "n.npz")
    assert main(["noise", "convert", str(tmp_path / "n.csv"), out, *flags]) == 0
    assert noise_file.read(out).indices.tolist() == [1, 5]
    assert "measured rate 0.50000" in capsys.readouterr().out


# ---- TensorFlow's order


@pytest.mark.parametrize("inverse", [False, True])
def test_tensorflows_order_is_named_and_mapped(tmp_path, monkeypatch, inverse, capsys):
    monkeypatch.setattr(external, "ORDER_FILES", {300: ("image_order_c10.npy",)})
    order = np.random.default_rng(3).permutation(300)
    path = tmp_path / "data" / "CIFAR-10_human_ordered.npy"
    path.parent.mkdir()
    save(
        path, objects({"clean_label": CLEAN[order].tolist(), "noise_label": NOISY[order].tolist()})
    )
    assert main(["noise", "info", str(path)]) == 0
    assert "in TensorFlow's order, not torchvision's" in capsys.readouterr().out
    for out in ("a.npz", "a.json"):
        with pytest.raises(NoiseFileError, match=r"in TensorFlow's order.*give the dataset"):
            write_any(tmp_path / out, read_any(path))
    known = {"dataset": "cifar10", "clean_labels": CLEAN, "num_classes": 10}
    with pytest.raises(NoiseFileError, match=r"put CIFAR-N's image_order_c10\.npy"):
        labels_for(read_any(path), **known)
    np.save(tmp_path / "image_order_c10.npy", np.argsort(order) if inverse else order)
    rows, noisy = labels_for(read_any(path), **known)
    np.testing.assert_array_equal(noisy, NOISY[rows])
    assert sorted(rows) == list(range(300))


def test_tensorflows_order_is_compared_with_no_other(tmp_path, capsys):
    ordered = save(tmp_path / "a.npy", objects({"one": NOISY.tolist(), "two": CLEAN.tolist()}))
    other = save(tmp_path / "b.npy", NOISY)
    assert main(["noise", "compare", f"{ordered}:one", str(other)]) == 2
    assert "in TensorFlow's order" in capsys.readouterr().err
    assert main(["noise", "compare", f"{ordered}:one", f"{ordered}:two"]) == 0


# ---- what cannot be right


def known(size=45_000, classes=10):
    clean = np.random.default_rng(4).integers(0, classes, 50_000)
    return clean, {"dataset": "cifar10", "clean_labels": clean, "num_classes": classes}


@pytest.mark.parametrize("ending", ["npy", "json", "pt", "csv"])
def test_45000_labels_are_the_first_whatever_the_format(tmp_path, ending):
    clean, dataset = known()
    noisy = noise.pair_flip(clean[:45_000], 0.3, 10, np.random.default_rng(0))
    write_any(tmp_path / f"a.{ending}", noise_file.make(noisy, clean_labels=clean[:45_000]))
    found = read_any(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(found.indices, np.arange(45_000))
    np.testing.assert_array_equal(labels_for(found, **dataset)[1], noisy)


def test_45000_other_labels_are_refused_with_the_likely_reasons(tmp_path):
    _, dataset = known()
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 10, 45_000))
    found = read_any(tmp_path / "a.npy")
    with pytest.raises(NoiseFileError, match=r"(?s)first 45,000.*chance.*split.*--accept_labels"):
        labels_for(found, **dataset)
    assert len(labels_for(found, **dataset, accept=True)[0]) == 45_000


@pytest.mark.parametrize("largest", [9, 1])
def test_labels_of_another_dataset_are_refused(largest):
    clean, dataset = known(classes=100)
    found = noise_file.make(clean % (largest + 1))
    with pytest.raises(NoiseFileError, match=rf"{largest + 1} classes \(the largest label is"):
        labels_for(found, **dataset)


@pytest.mark.parametrize(
    ("noisy", "clean", "classes"),
    [
        (
            noise.symmetric(CLEAN, 0.8, 10, np.random.default_rng(0), include_true_class=True),
            CLEAN,
            10,
        ),
        (np.zeros(20, int), np.zeros(20, int), 1),
        ([1, 0, 0, 1] * 20, [0, 1] * 40, 2),  # too few to tell
        ((CLEAN + 1) % 10, CLEAN, 10),  # below chance, so not by chance
        ([], [], 3),
        ([3], [3], 10),
    ],
)
def test_very_noisy_or_few_labels_are_still_taken(noisy, clean, classes):
    known = {"dataset": "folder", "clean_labels": np.array(clean, int), "num_classes": classes}
    assert len(labels_for(noise_file.make(np.array(noisy, int)), **known)[0]) == len(clean)


def test_labels_that_agree_less_than_by_chance_are_taken_with_a_note(capsys):
    known = {"dataset": "folder", "clean_labels": CLEAN, "num_classes": 10}
    labels_for(noise_file.make((CLEAN + 1) % 10), **known)
    said = capsys.readouterr().err
    assert "note: the noise file agrees with 0.0% of the 300 labels of folder" in said
    assert "are the classes numbered in another order?" in said
    labels_for(noise_file.make(NOISY), **known)
    assert not capsys.readouterr().err


def test_labels_that_come_with_the_right_clean_ones_are_taken_at_any_rate():
    found = noise_file.make((CLEAN + 1) % 10, clean_labels=CLEAN)
    known = {"dataset": "folder", "clean_labels": CLEAN, "num_classes": 10}
    assert len(labels_for(found, **known)[0]) == 300


def test_accepted_labels_become_a_file_that_needs_no_flag(tmp_path, capsys):
    digits = datasets.load("digits").train_labels
    np.save(tmp_path / "a.npy", np.random.default_rng(0).permutation(digits))
    convert = ["noise", "convert", str(tmp_path / "a.npy"), str(tmp_path / "a.npz")]
    assert main([*convert, "--dataset", "digits"]) == 2
    assert "as chance would" in capsys.readouterr().err
    assert main([*convert, "--dataset", "digits", "--accept_labels"]) == 0
    assert main(["noise", "info", str(tmp_path / "a.npz"), "--dataset", "digits"]) == 0
    printed = capsys.readouterr().out
    assert "the whole training set, in order" in printed


@pytest.mark.parametrize("count", [45_000, 50_000, 7])
def test_info_says_what_it_assumes(tmp_path, capsys, count):
    np.save(tmp_path / "a.npy", np.arange(count) % 10)
    assert main(["noise", "info", str(tmp_path / "a.npy")]) == 0
    printed = capsys.readouterr().out
    assert "assumed: " in printed
    assert ("the first" in printed) == (count == 45_000)
    assert "the whole training set" not in printed
