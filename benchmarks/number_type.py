"""Milliseconds a training step in bfloat16 and in float32, in turns: which of the two `tocsin.learning.fast_type` should take on this CPU.

python benchmarks/number_type.py --out benchmarks/results/number_type.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from tocsin import learning
from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset
from tocsin.detectors.confusion import PretrainSettings, pretrain
from tocsin.detectors.workbench import Bench
from tocsin.runtime import Runtime, Ticker

SAMPLES, STEPS, TURNS = 2000, 40, 5
NETWORKS = ("shortcut", "small")
"""What the rounds of Confusion Training train, and what its further looks do."""


def milliseconds(name: str, bench: Bench) -> float:
    how, network = PretrainSettings(steps=STEPS, lr=0.1, batch=128), bench.network(name, 1.0, 0)
    ticker, nothing = Ticker(Runtime("cpu", 0), "training", STEPS), torch.empty(0, dtype=torch.long)
    began = time.perf_counter()
    pretrain(network, bench, torch.arange(SAMPLES), nothing, how, torch.Generator().manual_seed(0), ticker)
    return 1000 * (time.perf_counter() - began) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    inputs, labels = np.random.default_rng(0).integers(0, 256, (SAMPLES, 32, 32, 3), dtype=np.uint8), np.arange(SAMPLES) % 10
    data, cpu, took = Dataset.of_arrays(inputs, labels, tuple(map(str, range(10)))), torch.device("cpu"), {}
    for name in NETWORKS:
        rows: dict[str, list[float]] = {"bfloat16": [], "float32": []}
        for turn in range(TURNS + 1):
            for kind in rows:
                with patch.object(learning, "fast_type", lambda device, kind=kind: torch.bfloat16 if kind == "bfloat16" else None):
                    bench = Bench.of(inputs, labels, data, cpu, branch=name == "shortcut")
                    if bench.whitened is not None:
                        bench = replace(bench, whitened=bench.whitened.to(getattr(torch, kind)))
                    each = milliseconds(name, bench)
                if turn:  # the first warms up
                    rows[kind].append(each)
        ratio = statistics.median(b / f for b, f in zip(rows["bfloat16"], rows["float32"], strict=True))
        took[name] = {**{kind: statistics.median(each) for kind, each in rows.items()}, "ratio": ratio, "turns": rows}
        print(name, {kind: round(value, 1) for kind, value in took[name].items() if kind != "turns"}, flush=True)
    line = {"milliseconds a step": took, "batch": 128, "features": sorted(features()), **provenance("cpu", " ".join(sys.argv))}
    args.out.write_text(json.dumps(line, indent=1) + "\n")


def features() -> list[str]:
    """Of the CPU: what torch says that it multiplies by."""
    checks = {"AMX": "_is_amx_tile_supported", "AVX512-BF16": "_is_avx512_bf16_supported", "AVX512": "_is_avx512_supported"}
    return [name for name, check in checks.items() if getattr(torch.cpu, check, lambda: False)()]


if __name__ == "__main__":
    main()
