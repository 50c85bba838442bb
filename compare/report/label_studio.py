"""Tasks for Label Studio: the suspicious samples, with what the methods would label them.

Import the .json into a project whose labelling interface is the .xml. A task's `data` keeps the
sample's row and the names of all classes, so that `shared.formats.label_studio` reads an export of
the reviewed project as a noise file. Letters: N samples.
"""

import json
import re
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from compare.report import gallery, thumbnails
from compare.report.collect import Collected, ReportError, Samples
from compare.report.gallery import Opinion
from compare.report.thumbnails import Source
from shared.formats.label_studio import CLASSES, CONTROL, PICTURE

SIDE = 384  # pixels of a picture at most


def tasks(found: Collected, source: Source, first: int) -> tuple[bytes, str | None]:
    """The JSON of the `first` most suspicious samples of each method and of all together.

    Samples without a picture are left out; beside the JSON stands why they have none, or None.
    Each has a prediction for each method, whose score is the label quality of the given label.
    Raises ReportError where no run has a verdict on its labels, or no sample a picture.
    """
    samples = found.samples
    judges = [method for method in found.methods if method.has_opinion]
    if not judges:
        raise ReportError(
            "no run has a verdict on its labels (label_quality.csv): let the runs finish, or write "
            "it with --export of the training scripts"
        )
    if samples.boxes is not None:
        raise ReportError(
            "these are objects in images, whose review does not come back as a noise file: look at "
            "them on the page (--format html)"
        )
    if len(set(samples.class_names)) < len(samples.class_names):
        raise ReportError("two classes have one name, and answers go by names: rename one")
    if replaced := [name for name in samples.class_names if re.search(r"\$\w", name)]:
        raise ReportError(
            f"the class {replaced[0]!r} cannot be chosen in Label Studio, which puts another text "
            "in the place of $ and a word: rename it"
        )
    ranking = gallery.ranked(judges, samples, first)
    rows = ranking.rows.tolist()
    pictures = thumbnails.of_samples(samples, rows, source, SIDE)
    if not any(pictures.uris):
        raise ReportError(f"a review needs the pictures: {pictures.problem}")
    names = json.dumps(samples.class_names, ensure_ascii=False)
    content = [
        {
            "data": _data(samples, row, names, picture),
            "predictions": [
                _prediction(samples, opinion, method.title, row, method.mean_quality[row])
                for method, opinion in zip(judges, ranking.by_method)
                if not np.isnan(opinion.ranking[row])
            ],
        }
        for row, picture in zip(rows, pictures.uris)
        if picture is not None
    ]
    return json.dumps(content, ensure_ascii=False, indent=1).encode(), pictures.problem


def _data(samples: Samples, row: int, names: str, picture: str) -> dict[str, Any]:
    return {
        PICTURE: picture,
        "index": int(samples.index[row]),
        "file": samples.files[row],
        "given_label": int(samples.given[row]),
        "given_name": samples.class_names[samples.given[row]],
        CLASSES: names,
    }


def _prediction(
    samples: Samples, opinion: Opinion, title: str, row: int, quality: float
) -> dict[str, Any]:
    choice = samples.class_names[opinion.predicted[row]]
    return {
        "model_version": title,
        "score": round(float(quality), 6),
        "result": [
            {
                "from_name": CONTROL,
                "to_name": PICTURE,
                "type": "choices",
                "value": {"choices": [choice]},
            }
        ],
    }


def labelling_config(samples: Samples) -> str:
    """The labelling interface: the picture, its given label, and one of the classes to choose."""
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in samples.class_names)
    return f"""<View>
  <Header value="given label: $given_name"/>
  <Image name="{PICTURE}" value="${PICTURE}" maxWidth="{SIDE}px"/>
  <Choices name="{CONTROL}" toName="{PICTURE}" layout="inline"
    choice="single-radio" required="true">
{choices}
  </Choices>
</View>
"""
