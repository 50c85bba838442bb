"""What the names of columns say: which labels are clean, which are noisy, and what is no label.

clean(["label", "label_noisy"])         # ["label"]
noisy(["label", "label_noisy"])         # ["label_noisy"]
"""

from collections.abc import Iterable

# The second ones only where there is none of the first
_CLEAN = (
    {"gt", "gt_label", "gt_labels", "ground_truth", "true_label", "true_labels", "y_true"},
    {"target", "targets", "label", "labels", "y", "original_label", "original_labels"},
)
_NOISY = {
    *("noisy", "noisy_label", "noisy_labels", "noise_label", "noise_labels", "noisy_targets"),
    *("label_noisy", "labels_noisy", "label_noise", "y_noisy", "noisy_y", "given_label"),
    "new_label",  # beside a given_label: then nobody knows which is meant
}
# Of the rows in the training set; of text tables `text_table` knows them
_INDEX = {"index", "indices", "idx", "sample_index", "sample_indices"}
# Words in the names of whole numbers that are no labels; the second ones beside none of the third
_FLAGS = {"is", "has", "mask", "flag", "flags"}
_NUMBERS = {"split", "fold", "epoch", "id", "ids", "idx", "index", "indices", "row", "rows"}
_OPEN_SET = {"open", "openset", "ood", "replaced"}  # of flags: the image is another one
_LABELS = {"label", "labels", "class", "classes", "category", "target", "targets"}


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")


def _words(name: str) -> set[str]:
    return set(_plain(name).split("_"))


def is_other(name: str) -> bool:
    """Whether it is of flags or numbers of samples, which look like labels and are none."""
    words = _words(name)
    return bool(words & _FLAGS) or (bool(words & _NUMBERS) and not words & _LABELS)


def is_of_open_set(name: str) -> bool:
    """Whether its flags, if it has some, say which images are replaced."""
    return bool(_words(name) & _OPEN_SET)


def is_index(name: str) -> bool:
    """Whether it is of the samples' rows in the dataset."""
    return _plain(name) in _INDEX


def is_surely_clean(name: str) -> bool:
    """Whether it can be of no other labels than clean ones."""
    plain = _plain(name)
    return plain in _CLEAN[0] or plain.startswith("clean") or "clean" in _words(name)


def clean(names: Iterable[str]) -> list[str]:
    """Those of clean labels: the sure ones or, where there are none, those that others go with."""
    names = list(names)
    sure = [name for name in names if is_surely_clean(name)]
    return sure or [name for name in names if _plain(name) in _CLEAN[1]]


def noisy(names: Iterable[str]) -> list[str]:
    """Those of noisy labels: the usual ones or, where there are none, those with the word."""
    names = [name for name in names if not is_other(name)]
    usual = [name for name in names if _plain(name) in _NOISY]
    return usual or [name for name in names if "noisy" in _words(name)]
