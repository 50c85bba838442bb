"""Independent noise on top of the labels of any noise file, as `noise add` makes it.

    hybrid = add(read_any("cifar10-1-0.35.npz"), OnTop("uniform", 0.3))  # cifar10-1-0.35_U_0.3.npy

Each label changes on its own with the rate given, drawn as PLC and LRA-diffusion draw it
(`shared.noise.pmd`): with the default seed their PMD files become their published hybrids.
"""

from dataclasses import dataclass

from shared.formats import noise_file
from shared.formats.noise_file import Header, NoiseFile, NoiseFileError
from shared.labels import MOST_CLASSES, checked_rate, checked_seed
from shared.noise import generators, pmd

KINDS = ("uniform", "asymmetric")
# The hybrids'; other datasets: pair flip
DEFAULT_MAPS = {"cifar10": "cifar10", "cifar100": "cifar100_blocks_of_five"}


@dataclass(frozen=True)
class OnTop:
    """What is put on top.

    Raises ValueError for an unknown kind or map, or a rate or seed out of range.
    """

    kind: str  # one of KINDS
    rate: float
    seed: int = pmd.ON_TOP_SEED  # in [0, 2^32)
    # asymmetric only: a name in ASYMMETRIC_MAPS; None: DEFAULT_MAPS, else the next class
    class_map: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"unknown kind of noise on top {self.kind!r}: choose one of {', '.join(KINDS)}"
            )
        checked_rate(self.rate)
        checked_seed(self.seed)
        if self.class_map is not None and self.kind != "asymmetric":
            raise ValueError(
                f"{self.kind} noise has no class map: leave --map out, or choose --kind asymmetric"
            )
        if self.class_map is not None and self.class_map not in generators.ASYMMETRIC_MAPS:
            raise ValueError(
                f"unknown map {self.class_map!r}: choose one of "
                f"{', '.join(generators.ASYMMETRIC_MAPS)}"
            )


def add(base: NoiseFile, top: OnTop) -> NoiseFile:
    """`base` with more noise; its samples, clean labels and flags stay.

    The header's kind becomes `<kind of base>+<kind>`, its seed that of the noise on top, and its
    generator tells both; no nominal rate describes the whole. Raises NoiseFileError when the number
    of classes is unknown, ValueError when they are not the map's.
    """
    known = base.header
    if known.num_classes is None:
        raise NoiseFileError(
            "the noise file does not say how many classes there are: name its dataset (--dataset)"
        )
    if known.num_classes > MOST_CLASSES:
        raise NoiseFileError(
            f"the noise file says {known.num_classes:,} classes, more than {MOST_CLASSES:,}: are "
            "these labels?"
        )
    if top.kind == "uniform":
        name, kind = known.class_map, top.kind
        noisy = pmd.uniform_on_top(base.noisy_labels, top.rate, known.num_classes, top.seed)
    else:
        name = top.class_map or DEFAULT_MAPS.get(known.dataset or "")
        kind = top.kind if name else "pair_flip"
        following = {
            source: (source + 1) % known.num_classes for source in range(known.num_classes)
        }
        rules = generators.ASYMMETRIC_MAPS[name] if name else following
        noisy = pmd.asymmetric_on_top(
            base.noisy_labels, top.rate, rules, known.num_classes, top.seed
        )
    return noise_file.make(
        noisy,
        clean_labels=base.clean_labels,
        indices=base.indices,
        open_set=base.open_set,
        dataset=known.dataset,
        split=known.split,
        num_classes=known.num_classes,
        kind=f"{known.kind or 'unknown'}+{kind}",
        class_map=name,
        seed=top.seed,
        generator=f"{_origin(known)}; {generators.GENERATOR}, {kind} on top, rate {top.rate}, "
        f"seed {top.seed}",
        clean_labels_sha256=known.clean_labels_sha256,
    )


def _origin(known: Header) -> str:
    """What made the labels below, in words: their place in the header goes to the noise on top."""
    facts = {
        None: known.generator or "unknown labels",
        "rate": known.nominal_rate,
        "seed": None if "on top" in (known.generator or "") else known.seed,
        "map": known.class_map,
    }
    return ", ".join(
        str(fact) if name is None else f"{name} {fact}"
        for name, fact in facts.items()
        if fact is not None
    )
