"""How long an audit of CIFAR-10's 48,000 pictures takes by several detectors in turns. On an idle machine.

python benchmarks/image_time.py --out benchmarks/results/image_time.jsonl --detectors ct asset proactive --seed 100 --turns 3

Clean pictures, 2,000 in reserve, no canaries. One json line a detector: seconds of each turn, their median, its ratio to the first
detector's, stages of the last turn, the verdict.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

import real
from tocsin.auditing import audit
from tocsin.bench.provenance import peak_rss_mb, provenance
from tocsin.runtime import Runtime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--detectors", nargs="+", default=["ct", "asset", "proactive"])
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    train, reserve = real.split("cifar10", args.seed)
    taken: dict[str, list[float]] = {name: [] for name in args.detectors}
    reports = {}
    audit(train[np.arange(2000)], reserve, detector=args.detectors[0], canaries=False, runtime=Runtime(args.device, args.seed))  # warms up
    for turn in range(args.turns):
        for name in args.detectors if turn % 2 == 0 else reversed(args.detectors):
            began = time.perf_counter()
            reports[name] = audit(train, reserve, detector=name, canaries=False, runtime=Runtime(args.device, args.seed))
            taken[name].append(time.perf_counter() - began)
            print(turn, name, round(taken[name][-1], 1), "s", reports[name].verdict, flush=True)
    first = float(np.median(taken[args.detectors[0]]))
    for name, seconds in taken.items():
        line = {
            "data": "cifar10", "seed": args.seed, "samples": len(train), "reserve": len(reserve), "detector": name, "seconds": seconds,
            "median": float(np.median(seconds)), "to_first": float(np.median(seconds)) / first, "first": args.detectors[0],
            "verdict": reports[name].verdict, "timings": dict(reports[name].findings.timings), "peak_rss_mb": peak_rss_mb(),
            **provenance(str(Runtime(args.device).torch_device()), " ".join(sys.argv)),
        }  # fmt: skip
        with args.out.open("a") as out:
            out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
