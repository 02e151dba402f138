"""How much STRIP adds to the forward passes that it needs: a pass for each pair of a sample and an overlay.

    python benchmarks/strip_speed.py --out benchmarks/results/strip_speed.json

Random pictures of 32 x 32 and a network with its first weights; what is timed is the same for any others. In turns with `Strip.judge`,
which lays the overlays on, takes the entropies and decides, the network alone is given as many pictures, in batches of the same size,
that lie ready as tensors.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from passive_speed import where_from
from tocsin.data.dataset import Dataset
from tocsin.detectors.strip import Strip
from tocsin.detectors.victim import Victim
from tocsin.kinds import kind_of
from tocsin.learning import EVAL_BATCH, evaluating
from tocsin.networks import build_network
from tocsin.runtime import Runtime

CLASSES, RESERVE = 10, 200


def pictures(count: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return Dataset.of_arrays(inputs, np.arange(count) % CLASSES, tuple(str(k) for k in range(CLASSES)))


def forward_passes(victim: Victim, count: int) -> None:
    """``count`` pictures through the network, a batch as large as STRIP's."""
    x = torch.randn(EVAL_BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)  # STRIP's lie in memory like that too
    with torch.inference_mode(), evaluating(victim.network, torch.device("cpu")):
        for start in range(0, count, EVAL_BATCH):
            victim.network(x[: count - start])


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measured(name: str, samples: int, repeats: int) -> dict[str, object]:
    train, reserve = pictures(samples, 0), pictures(RESERVE, 1)
    victim = Victim(train, reserve, build_network(name, 3, CLASSES, 0), kind_of(train), Runtime(device="cpu"))
    strip = Strip()
    passes = (samples + RESERVE - strip.overlays) * strip.overlays
    ways: dict[str, Callable[[], object]] = {"strip": lambda: strip.judge(victim), "forward passes": lambda: forward_passes(victim, passes)}
    times: dict[str, list[float]] = {who: [] for who in ways}
    for turn in range(repeats + 1):  # the first turn warms up
        for who, run in ways.items():
            took = seconds(run)
            print(name, who, "warming up" if not turn else f"{took:.3f} s", flush=True)
            times[who] += [took] if turn else []
    medians = {who: statistics.median(found) for who, found in times.items()}
    return {
        "samples": samples,
        "passes": passes,
        "seconds": times,
        "medians": medians,
        "ratio": medians["strip"] / medians["forward passes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["small", "resnet18"])
    parser.add_argument("--samples", type=int, nargs="+", default=[2000, 50], help="one for each network")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    began = where_from()
    sizes = zip(args.networks, args.samples, strict=True)
    text = json.dumps({"networks": {name: measured(name, count, args.repeats) for name, count in sizes}, **began}, indent=1)
    if args.out:
        args.out.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
