"""How many operations an audit of CIFAR-10's 48,000 pictures takes, counted by torch, beside those of the official ASSET. Nothing is timed.

    python benchmarks/asset_flops.py --out benchmarks/results/asset_flops.jsonl

One json line: floating point operations (two a multiplication and addition, of convolutions and matrix products, forward and backward) of
``ct`` and ``asset``, preset fast, on clean pictures, and of one epoch of the official procedure on 50,000: 98 batches of 512, of each of
which the feature network (ResNet-18) goes forward and backward two hundred times for the scout's hundred steps, though its features do
not change, and the separator twice (specification 6); and what that would be with features kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import real
from tocsin.auditing import audit
from tocsin.bench.provenance import provenance
from tocsin.networks.resnet import ResNet18
from tocsin.runtime import Runtime

PICTURES, BATCH, SCOUT_STEPS = 50_000, 512, 100
THERE_AND_BACK = 3
"""Forward passes that a forward and a backward pass cost."""


def counted(detector: str, seed: int) -> int:
    train, reserve = real.split("cifar10", seed)
    with FlopCounterMode(display=False) as counter:
        audit(train, reserve, detector=detector, canaries=False, runtime=Runtime("cpu", seed))
    return int(counter.get_total_flops())


def forward() -> int:
    """Of a ResNet-18 that reads one picture."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ResNet18(3, 10).eval()(torch.zeros(1, 3, 32, 32))
    return int(counter.get_total_flops())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)  # networks are then trained one after another, in the thread that the counter sees
    batches, one = -(-PICTURES // BATCH), forward()
    batch = BATCH * one
    line = {
        "samples": 48_000, "flops": {name: counted(name, args.seed) for name in ("ct", "asset")},
        "official": {
            "resnet18_forward": one,
            "epoch": batches * batch * THERE_AND_BACK * (2 * SCOUT_STEPS + 2),
            "epoch_with_features_kept": batches * batch * (2 + 2 * THERE_AND_BACK),
        },
        **provenance("cpu", " ".join(sys.argv)),
    }  # fmt: skip
    with args.out.open("a") as out:
        out.write(json.dumps(line) + "\n")
    print(json.dumps({key: line[key] for key in ("flops", "official")}, indent=1))


if __name__ == "__main__":
    main()
