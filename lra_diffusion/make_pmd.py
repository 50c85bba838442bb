"""Poly-Margin-Diminishing (PMD) noise: labels are wrong where a teacher hesitates.

Zhang et al., "Learning with Feature-Dependent Label Noise: A Progressive Approach" (PLC), ICLR
2021; the noise of LRA-diffusion's CIFAR experiments. A teacher learns the clean labels; its outputs
of the last epoch, eta, decide between its two likeliest classes for each label, together with type,
factor and seed (`shared.noise.pmd`).

    python make_pmd.py --dataset cifar10 --noise_factor 1.43 --epochs 25 --noise_type 1 --gpus 0
    python make_pmd.py --dataset cifar10 --rate 0.7 --eta noise_label/eta_cifar10_25ep_seed123.npy
    python make_pmd.py --dataset digits --rate 0.35 --uniform 0.3

The first is PLC's command line; the second trains nothing and takes seconds; the third takes 20 s
on one CPU core and downloads nothing. Writes noise_label/<dataset>-<type>-<realised PMD rate>, with
_U_<rate> or _A_<rate>, as .npy as published and as .npz with what made it, eta, and the teacher,
whose training --resume continues. On digits and folders, whose validation images are scattered, the
labels are an .npz only.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# The repository: the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from lra_diffusion.run.errors import exit_status
from lra_diffusion.run.tool_config import parse_pmd


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 2 for input that cannot work, 3 for a teacher that diverges."""

    def work() -> None:
        config = parse_pmd(argv)

        from lra_diffusion.run import pmd_labels, pmd_teacher
        from lra_diffusion.run.device import configure_torch
        from lra_diffusion.run.launch import alone_only

        alone_only("it writes one file of labels")
        plan, device = pmd_labels.Plan(config), pmd_labels.choose(config)
        configure_torch(config.deterministic, device)
        part, rows = pmd_labels.load(config)
        if config.eta:
            eta = pmd_teacher.read_posteriors(config.eta, part)
        else:
            eta = pmd_teacher.posteriors(config, plan.folder, part, device)
        noise, pmd_rate = pmd_labels.noisy_labels(plan, part, rows, eta)
        files = pmd_labels.write_labels(plan, noise, pmd_rate)
        pmd_labels.print_facts(noise, pmd_rate, part, eta)
        print(f"wrote {' and '.join(map(str, files))}")

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
