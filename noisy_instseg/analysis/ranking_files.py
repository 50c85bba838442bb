"""What find_noisy.py writes: a table in cleanlab's words, better annotations, probabilities.

    pandas.read_csv("label_quality.csv").sort_values(["label_quality", "rank"])   # the worst first

The table has the columns of `shared.formats.label_quality`, one row per annotation, in the order of
the file: `index` among all its annotations, `file` of the image, labels in [0, C) with their names;
`label_quality` is the model's probability of the given label, so the same as `self_confidence`; in
the whole the order is that of the losses. Then `clean_label`, where a manifest tells it (-1: no
class of the model), and what only annotations have: `annotation_id`, `image` (the file again),
`bbox` ("x y w h" in pixels, as in the file), `image_id`, `predicted_prob`, `loss`, and `rank` from
1, the largest loss, on. Letters: N annotations of the file, M that are ranked, C classes.
"""

import csv
import io

import numpy as np

from noisy_instseg.analysis.noise_ranking import Ranking
from shared.coco import file as coco_file
from shared.formats.label_quality import COLUMNS

OF_ANNOTATIONS = ("annotation_id", "image", "bbox", "image_id", "predicted_prob", "loss", "rank")


def table(source: coco_file.CocoFile, ranking: Ranking) -> bytes:
    """The content of label_quality.csv. source: the file that was ranked."""
    found, names, issue = ranking.annotations, ranking.class_names, ranking.is_issue
    clean, predicted = found.clean_labels, ranking.predicted.tolist()
    rank = np.empty(len(found), np.int64)
    rank[ranking.order] = np.arange(1, len(found) + 1)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*COLUMNS, *([] if clean is None else ["clean_label"]), *OF_ANNOTATIONS])
    for row, (label, likely) in enumerate(zip(found.labels.tolist(), predicted)):
        index, image_id = int(found.index[row]), found.image_ids[row]
        quality, best = (f"{ranking.probs[row, column]:.6f}" for column in (label, likely))
        name, box = found.file_names[image_id], source.content["annotations"][index]["bbox"]
        cells = [
            *(index, name, label, names[label], likely, names[likely]),
            *(quality, quality, bool(issue[row])),
            *([] if clean is None else [int(clean[row])]),
            *(int(found.ids[row]), name, " ".join(map(str, box)), image_id),
            *(best, f"{ranking.losses[row]:.6f}", int(rank[row])),
        ]
        writer.writerow(cells)
    return buffer.getvalue().encode()


def corrected(source: coco_file.CocoFile, ranking: Ranking) -> bytes:
    """The annotation file with the predicted category where the given one is an issue."""
    categories, issue = source.category_ids.copy(), ranking.is_issue
    better = np.array(ranking.annotations.category_ids, np.int64)[ranking.predicted]
    categories[ranking.annotations.index[issue]] = better[issue]
    return coco_file.encode(source, categories)


def probabilities(ranking: Ranking) -> bytes:
    """The content of pred_probs.npz: (M, C) with rows of the table, as cleanlab takes them.

    They are of the model that was trained on these very labels.
    """
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        index=ranking.annotations.index,
        annotation_ids=ranking.annotations.ids,
        given_labels=ranking.annotations.labels,
        pred_probs=ranking.probs.astype(np.float32),
        out_of_sample=np.bool_(False),
        class_names=np.array(ranking.class_names),
    )
    return stream.getvalue()
