"""The page: one HTML file with everything in it, which opens offline and asks nobody anything.

Its content security policy allows the two scripts by their hashes and no connection at all, so that
nothing in a name of a class or file can run. Letters: N samples.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from compare.report import figures, gallery, review, tables, thumbnails
from compare.report.collect import Collected, Method, Samples
from compare.report.figures import Figure
from compare.report.thumbnails import Source
from compare.run import counted

TEMPLATE = Path(__file__).parent / "template"
HELPED = " (given some clean labels)"
SECTIONS = (
    ("methods", "Which method is best"),
    ("curves", "Curves"),
    ("noise", "The noise"),
    ("quality", "Finding wrong labels"),
    ("agreement", "Agreement"),
    ("gallery", "Suspicious labels"),
    ("runs", "What was read"),
)


def page(found: Collected, source: Source, first: int) -> tuple[str, str | None]:
    """The report as HTML, and why pictures are missing from it, None where none is.

    first: how many suspicious samples of each method have a picture.
    """
    samples = found.samples
    judges = [method for method in found.methods if method.has_opinion]
    unit = next((run.metric for method in found.methods for run in method.runs), "accuracy")
    detections = [tables.detections(method, samples) for method in judges]
    are_known = any(detections)
    curves = figures.accuracy(found.methods, unit)
    matrices = figures.transitions(samples, judges)
    wrong = int(samples.wrong.sum())
    quality = [
        figures.roc(judges, detections),
        figures.precision(judges, detections, wrong),
    ]
    agreement = figures.agreement(judges) if len(judges) > 1 else []
    ranking = gallery.ranked(judges, samples, first)
    pictures = thumbnails.of_samples(samples, ranking.rows.tolist(), source)
    shown = [*matrices, *agreement, *(quality if are_known else []), *([curves] if curves else [])]
    headings, classes = tables.classes(samples, judges)
    rows = tables.methods(found.methods, samples)
    detection = tables.detection(judges, detections, samples)
    samples_shown = gallery.for_page(ranking, judges, samples, pictures.uris)
    html = _render(
        title=f"Noisy labels of {samples.dataset or 'these runs'}: a comparison",
        facts=_facts(found),
        answers=_answers(rows, detection, unit),
        sections=SECTIONS,
        unit_text="Test accuracy in percent." if unit == "accuracy" else f"{unit} in percent.",
        methods=rows,
        curves=curves,
        matrices=matrices,
        matrix_text=_matrix_text(samples),
        class_headings=headings,
        classes=classes,
        detection=detection,
        wrong_text=f"{wrong:,} of {int(samples.known.sum()):,} labels are wrong.",
        wrong_count=f"{wrong:,}",
        no_detection=_no_detection(samples, judges),
        quality=quality,
        agreement=agreement,
        no_agreement=_no_agreement(judges),
        gallery=samples_shown,
        gallery_text=_gallery_text(len(ranking.rows), len(samples.index), first, len(judges)),
        are_objects=samples.boxes is not None,
        are_files=any(samples.files),
        given_classes=_classes_of(samples, samples_shown, "given"),
        predicted_classes=_classes_of(samples, samples_shown, "predicted"),
        picture_problem=pictures.problem,
        figures=Markup(_figures_json(shown)),
        notes=found.notes,
        folders=[(method.title, run.folder) for method in found.methods for run in method.runs],
        left_out=found.left_out,
        convert=review.command(found, "ticked_labels.csv:new_label"),
    )
    return html, pictures.problem


def _render(**content: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plotly, script = get_plotlyjs(), (TEMPLATE / "page.js").read_text(encoding="utf-8")
    scripts = " ".join(f"'sha256-{_hash(text)}'" for text in (plotly, script))
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("page.html.j2").render(
        **content,
        policy=policy,
        style=Markup((TEMPLATE / "page.css").read_text(encoding="utf-8")),
        plotly=Markup(plotly),
        script=Markup(script),
    )


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _figures_json(shown: Sequence[Figure]) -> str:
    """Name -> figure, as text that cannot end the element it stands in."""
    entries = (f'"{figure.name}": {figure.json}' for figure in shown)
    return f"{{{', '.join(entries)}}}".replace("<", "\\u003c").replace(">", "\\u003e")


# ---- sentences


def _facts(found: Collected) -> str:
    samples = found.samples
    runs = sum(len(method.runs) for method in found.methods)
    if not len(samples.index):
        facts = ["No run recorded its labels"]
    else:
        facts = [
            f"{len(samples.index):,} training labels of {len(samples.class_names)} classes",
            f"{samples.wrong[samples.known].mean():.1%} of them wrong"
            if samples.knows_truth
            else "whose truth is not known",
        ]
    methods = len(found.methods)
    facts.append(f"{counted(runs, 'run')} of {counted(methods, 'method')}")
    return ", ".join(facts) + "."


def _answers(
    rows: Sequence[tables.MethodRow], detection: Sequence[tuple[str, list[tables.Cell]]], unit: str
) -> list[str]:
    """The two questions in a sentence each, where they can be answered.

    Who was told true labels is named so, and what is best without them is said, too.
    """
    helped = {row.title for row in rows if row.has_clean}
    best = [row for row in rows if row.is_finished and row.scores[0].value is not None]
    answers = _highest(f"Highest last {unit}", best)
    if any(row.has_clean for row in best[:2]):
        answers += _highest(
            "Highest without clean labels", [row for row in best if not row.has_clean]
        )
    alone = [row for row in detection if row[0] not in helped]
    answers += _finds_best("Finds wrong labels best", detection, helped)
    if detection[:1] != alone[:1]:
        answers += _finds_best("Finds them best without clean labels", alone, helped)
    return answers


def _highest(what: str, rows: Sequence[tables.MethodRow]) -> list[str]:
    """Of at least two rows, the best first."""
    if len(rows) < 2:
        return []
    (first, high), (second, next_high) = (
        (f"{row.title}{HELPED if row.has_clean else ''}", row.scores[0].text) for row in rows[:2]
    )
    others = f"as has {second}" if next_high == high else f"before {second} with {next_high}"
    return [f"{what}: {first} with {high} %, {others}."]


def _finds_best(
    what: str, rows: Sequence[tuple[str, list[tables.Cell]]], helped: set[str]
) -> list[str]:
    if not rows:
        return []
    title, (area, _, flagged, wrong, _) = rows[0]
    found = f"of the labels that it flags, {wrong.text} are wrong"
    return [
        f"{what}: {title}{HELPED if title in helped else ''}, with an AUC of {area.text}; "
        f"{found if flagged.value else 'it flags no label'}."
    ]


def _matrix_text(samples: Samples) -> str:
    text = (
        "A method's corrected label is its prediction where it flags the given one, else the "
        "given one. From corrected to given is the noise that it believes in"
    )
    if samples.knows_truth:
        text += ": compare it with the noise. From clean to corrected is what noise would be left"
    shown = len(samples.class_names)
    if shown > figures.MOST_CLASSES:
        text += (
            f". Of {shown:,} classes those {figures.MOST_CLASSES} are shown that are doubted most"
        )
    return f"{text}."


def _no_detection(samples: Samples, judges: Sequence[Method]) -> str:
    if not judges:
        return "No run has a verdict on its labels (label_quality.csv)."
    if not samples.knows_truth:
        return (
            "The truth is not known here, so nobody can tell how well the methods find wrong "
            "labels: the suspicious ones below are to be looked at."
        )
    return "All labels are right, or all wrong, so there is nothing to find among them."


def _no_agreement(judges: Sequence[Method]) -> str:
    if not judges:
        return "No run has a verdict on its labels (label_quality.csv)."
    return f"Only {judges[0].title} has a verdict on the labels: agreement needs two methods."


def _gallery_text(count: int, whole: int, first: int, judges: int) -> str:
    if judges == 1:
        return f"The first {count:,} of {whole:,} labels by the method's label quality."
    return (
        f"The first {min(first, whole):,} of {whole:,} labels by each method's label quality and "
        f"by the mean rank over the methods, {count:,} in all."
    )


def _classes_of(samples: Samples, shown: dict[str, Any], kind: str) -> list[tuple[int, str]]:
    """Number and name of the classes that the gallery can be filtered by."""
    if kind == "given":
        labels = {sample["given"] for sample in shown["samples"]}
    else:
        said = (each for sample in shown["samples"] for each in (sample["all"], *sample["by"]))
        labels = {each["predicted"] for each in said if each}
    return [(label, samples.class_names[label]) for label in sorted(labels) if label >= 0]
