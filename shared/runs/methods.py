"""Which project and method a run is of, by its settings, and what that says about its log.

The one table of all methods. A project is recognised by the names of its settings.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shared.runs.files import number
from shared.runs.run import Evaluation, Run, RunError

INSTANCEGM, RE_SLN, LRA, IEG, INSTSEG = PROJECTS = (
    *("instancegm", "re_sln", "lra_diffusion"),
    *("ieg_fsr", "noisy_instseg"),
)
TITLES = {
    INSTANCEGM: {"ce": "Cross-entropy", "dividemix": "DivideMix", "instancegm": "InstanceGM"},
    RE_SLN: {"ce": "Cross-entropy", "sln": "SLN", "sln_mo": "SLN+MO", "sln_mo_lc": "SLN+MO+LC"},
    LRA: {"ce": "Cross-entropy", "lra": "LRA-diffusion"},
    IEG: {"supervised": "Supervised", "l2r": "L2R", "ieg": "IEG", "fsr": "FSR"},
}
WHICH = {RE_SLN: "last", IEG: "last", INSTSEG: "last"}  # the other papers do not say
# Settings that no other project has together.
MARKS = {
    INSTANCEGM: {"no_vae", "num_epochs"},
    RE_SLN: {"dataset_name", "sigma", "mo", "lc_n_epoch"},
    LRA: {"method", "nepoch"},
    IEG: {"method", "network_name"},
}
ENCODER_MARKS = {"nepoch", "temperature", "arch"}
EPOCHS = {INSTANCEGM: "num_epochs", RE_SLN: "n_epochs", LRA: "nepoch"}


class Method(NamedTuple):
    """Of which project and method a run is."""

    project: str
    key: str
    title: str


def recognised(settings: Mapping[str, Any]) -> Method:
    """Raises RunError where the settings are of no run of this repository."""
    if settings.keys() >= ENCODER_MARKS and "method" not in settings:
        raise RunError(
            "an encoder trained by train_SimCLR.py, not a classifier: give the run that uses it"
        )
    for project, marks in MARKS.items():
        if settings.keys() >= marks:
            key = _key(project, settings)
            if key in TITLES[project]:
                return Method(project, key, TITLES[project][key])
    raise RunError("its settings are not those of a training script of this repository")


def _key(project: str, settings: Mapping[str, Any]) -> str:
    if project == RE_SLN:
        averaged, corrected = bool(settings["mo"]), settings["lc_n_epoch"] != -1
        return "ce" if settings["sigma"] == 0 else "sln" + "_mo" * averaged + "_lc" * corrected
    name = str(settings.get("method"))
    if project == INSTANCEGM and name == "None":  # of runs before methods had names
        return "dividemix" if settings["no_vae"] else "instancegm"
    if project == LRA:
        return "lra" if name.startswith("LRA-diffusion") else name.lower()
    return name


def reported(
    project: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[str, bool]:
    """The entry of the rows with the accuracy that a run reports, and whether weights are averaged.

    IEG and its relatives report the average unless told otherwise; SLN+MO always;
    LRA-diffusion whichever was better in validation.
    """
    if project == RE_SLN:
        return "accuracy", bool(settings["mo"])
    if project == LRA:
        tested = [row for row in rows if number(row.get("accuracy")) is not None]
        return "accuracy", bool(tested) and tested[-1].get("weights") == "ema"
    of_average = project in (IEG, "") and settings.get("use_ema", True)
    if of_average and any("accuracy_ema" in row for row in rows):
        return "accuracy_ema", True
    return "accuracy", False


def trained(rows: Sequence[Mapping[str, Any]]) -> float:
    """Epochs so far: the first one is 0 in some logs, 1 in others, a share of it in IEG's."""
    epochs: float = rows[-1]["epoch"] + (rows[0]["epoch"] == 0)
    return epochs


def planned(
    project: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> float | None:
    """Epochs that the run is to train, by its settings; None where they do not say."""
    if project == IEG:
        steps, done = number(settings.get("max_iteration")), number(rows[-1].get("iteration"))
        if (epochs := number(settings.get("max_epoch"))) is not None:
            return epochs
        return steps * float(rows[-1]["epoch"]) / done if steps is not None and done else None
    epochs = number(settings.get(EPOCHS.get(project, "")))
    return epochs + 1 if project == INSTANCEGM and epochs is not None else epochs


def classifier_run(
    place: Path,
    method: Method,
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    noise_sha256: str | None = None,
) -> Run:
    """The run of a folder, or of a curve, with these settings and rows."""
    project = method.project
    entry, averaged = reported(project, settings, rows)
    seed = settings.get("seed")
    return Run(
        folder=place,
        project=project,
        method=method.key,
        title=method.title,
        config=settings,
        rows=rows,
        evaluations=[
            Evaluation(row["epoch"], accuracy)
            for row in rows
            if (accuracy := number(row.get(entry))) is not None
        ],
        epochs=trained(rows),
        epochs_planned=planned(project, settings, rows),
        averaged=averaged,
        which=WHICH.get(project, ""),
        seconds=sum(number(row.get("seconds")) or 0.0 for row in rows),
        seed=seed if isinstance(seed, int) else None,
        noise_sha256=noise_sha256,
    )
