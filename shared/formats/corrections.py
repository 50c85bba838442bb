"""Labels of some samples, such as those that somebody reviewed, put into the labels of all.

replaced(noise_file.read("noise.npz"), external.read_any("reviewed.json"))
"""

import numpy as np

from shared.formats.noise_file import (
    CORRECTED_KIND,
    NoiseFile,
    NoiseFileError,
    check_rows,
    make,
)


def replaced(base: NoiseFile, found: NoiseFile) -> NoiseFile:
    """The labels of `base`, N of them, with those of the n samples that `found` has in their place.

    Samples are matched by their rows in the dataset. Raises NoiseFileError where one of the two
    does not know them, or where `found` has one that `base` lacks or is of another dataset.
    """
    for noise in (base, found):
        check_rows(noise)
    for name in ("dataset", "num_classes"):
        one, two = getattr(base.header, name), getattr(found.header, name)
        if None not in (one, two) and one != two:
            raise NoiseFileError(
                f"the corrected labels have {name} {two}, those to correct {one}: give the noise "
                "file that the runs were trained on (--onto)"
            )
    rows, corrected = base.rows, found.rows
    order = np.argsort(rows, kind="stable")
    places = np.searchsorted(rows[order], corrected).clip(max=len(rows) - 1)
    missing = corrected[rows[order][places] != corrected] if len(rows) else corrected
    if len(missing):
        raise NoiseFileError(
            f"sample {missing[0]} is corrected, and the labels to correct have none of it: give "
            "the noise file that the runs were trained on (--onto)"
        )
    labels = base.noisy_labels.copy()
    labels[order[places]] = found.noisy_labels
    header = base.header
    return make(
        labels,
        clean_labels=base.clean_labels,
        indices=base.indices,
        open_set=base.open_set,
        dataset=header.dataset,
        split=header.split,
        num_classes=header.num_classes,
        kind=CORRECTED_KIND,
    )
