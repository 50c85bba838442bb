"""What a training step of a torch project spends its time on."""

import os
from collections import defaultdict
from collections.abc import Callable

# Else the profiler reports on standard error that it starts, stops and finds no GPU.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

from torch.profiler import ProfilerActivity, profile

# By the names of torch's operators, their own time without that of others which they call.
KINDS = {
    "convolutions, matrix products": ("conv", "addmm", "::mm", "::bmm", "linear"),
    "RoIAlign, NMS": ("roi_align", "::nms"),
    "normalisation": ("batch_norm", "layer_norm"),
    "optimizer, EMA": ("_fused_", "_foreach_"),
    "casts and copies": ("copy_", "_to_copy", "::clone", "::index", "::cat"),
}
ELSE = "other elementwise operations"


def shares_of(step: Callable[[], object], repeat: int = 2) -> dict[str, float]:
    """Percent of a step on the CPU by kind of operation; the first step is not counted."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(repeat):
            step()
    times: dict[str, float] = defaultdict(float)
    for event in seen.key_averages():
        if event.key.startswith(("aten::", "torchvision::")):
            kinds = (kind for kind, names in KINDS.items() if any(n in event.key for n in names))
            times[next(kinds, ELSE)] += event.self_cpu_time_total
    total = sum(times.values())
    return {kind: 100 * times[kind] / total for kind in (*KINDS, ELSE)}


def show(title: str, found: dict[str, float]) -> None:
    print(f"\n{title} of the time in torch's operators")
    for kind, share in found.items():
        if share:
            print(f"  {kind:<40}{share:8.1f}")
