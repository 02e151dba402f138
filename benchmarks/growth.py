"""How an audit grows: seconds and memory at 5, 10, 25 and 48 thousand pictures, and how far from the floor it is.

python benchmarks/growth.py --out benchmarks/results/growth.json --plot docs/images/growth.svg     (on an idle machine)

Each size runs in a process of its own, so that peak memory is its own. The floor: FLOPs of all passes, over the rate of a large bfloat16
matrix product measured here. For comparison, an epoch of ResNet-18 on the same pictures, from 20 timed steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import real
from tocsin.auditing import audit
from tocsin.bench.provenance import peak_rss_mb, provenance
from tocsin.learning import autocast
from tocsin.networks import build_network
from tocsin.networks.shortcut import ShortcutNet
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime

SIZES = (5_000, 10_000, 25_000, 48_000)


def one(size: int, seed: int) -> dict[str, object]:
    """One audit of ``size`` pictures, in this process."""
    train, reserve = real.split("cifar10", seed)
    train = poison(train[np.random.default_rng(seed).permutation(len(train))[:size]], build("badnet", rate=0.01), seed).dataset
    before = peak_rss_mb()
    report = audit(train, reserve, runtime=Runtime(seed=seed))
    return {
        "samples": size, "seconds": report.seconds, "timings": dict(report.findings.timings), "verdict": report.verdict,
        "images_trained": report.findings.evidence["images trained"], "rounds": len(report.findings.evidence["rounds"]),
        "rss_before_mb": before, "peak_rss_mb": peak_rss_mb(),
    }  # fmt: skip


def flops_an_image(network: torch.nn.Module, *inputs: torch.Tensor) -> tuple[float, float]:
    """(forward, forward and backward) floating point operations an image."""
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        network(*inputs)
    with FlopCounterMode(display=False) as both:
        F.cross_entropy(network(*inputs), torch.zeros(len(inputs[0]), dtype=torch.long)).backward()
    return forward.get_total_flops() / len(inputs[0]), both.get_total_flops() / len(inputs[0])


def peak() -> float:
    """Operations a second of a 4096-square bfloat16 product on all cores: the median of five."""
    a, b = torch.randn(4096, 4096).bfloat16(), torch.randn(4096, 4096).bfloat16()
    rates = []
    for _ in range(6):
        start = time.perf_counter()
        a @ b
        rates.append(2 * 4096**3 / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def resnet_epoch(samples: int, steps: int = 20, batch: int = 128) -> float:
    """Seconds of a ResNet-18 epoch, from the median of ``steps`` steps."""
    network = build_network("resnet18", 3, 10, 0).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    x = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    y, times = torch.randint(0, 10, (batch,)), []
    for _ in range(steps + 3):
        start = time.perf_counter()
        with autocast(torch.device("cpu")):
            loss = F.cross_entropy(network(x).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:]) * samples / batch


def plot(cells: list[dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3))
    x = [c["samples"] / 1000 for c in cells]
    left.plot(x, [c["seconds"] for c in cells], "o-")
    left.set(xlabel="thousand pictures", ylabel="seconds", xlim=(0, None), ylim=(0, None))
    right.plot(x, [c["peak_rss_mb"] / 1024 for c in cells], "o-", label="process")
    right.plot(x, [c["rss_before_mb"] / 1024 for c in cells], "o--", label="before the audit")
    right.set(xlabel="thousand pictures", ylabel="peak resident GB", xlim=(0, None), ylim=(0, None))
    right.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", type=int, help="run this size alone and print its line")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one, args.seed)))
        return
    cells = []
    for size in SIZES:
        line = subprocess.run(
            [sys.executable, __file__, "--one", str(size), "--seed", str(args.seed)], capture_output=True, text=True, check=True
        ).stdout
        cells.append(json.loads(line.splitlines()[-1]))
        print(cells[-1], flush=True)
    network = ShortcutNet(3, 3072, 10)
    forward, both = flops_an_image(network, torch.randn(64, 3, 32, 32), torch.randn(64, 3072))
    last, rate = cells[-1], peak()
    total = last["images_trained"] * both + last["rounds"] * 2 * (last["samples"] + real.RESERVE) * forward
    epoch = resnet_epoch(last["samples"])
    result = {
        "cells": cells, "flops_forward_an_image": forward, "flops_both_an_image": both, "flops": total, "peak_flops_a_second": rate,
        "floor_seconds": total / rate, "share_of_peak": total / rate / last["seconds"],
        "resnet18_epoch_seconds": epoch, "audit_in_resnet18_epochs": last["seconds"] / epoch, **provenance("cpu", " ".join(sys.argv)),
    }  # fmt: skip
    print(json.dumps({k: v for k, v in result.items() if k != "cells"}, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    if args.plot:
        plot(cells, args.plot)


if __name__ == "__main__":
    main()
