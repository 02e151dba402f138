"""SS, AC, STRIP and Frequency beside the audit's table for speech: one json line a set, with provenance.

    python benchmarks/speech_passive.py --out benchmarks/results/speech_passive.jsonl

The sets are those of `speech_audit.py`. The detectors read the usual victim (``tc-resnet8``), trained on the poisoned clips; Frequency
reads none. A line: what they say by their own defaults (no oracle), and the areas under the curve inside the target class. What is
finished, a set by all that are asked, is not repeated. Needs soundfile.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from speech_audit import ATTACKS, NETWORK, area, sets
from tocsin.bench.provenance import provenance
from tocsin.detectors import DETECTORS
from tocsin.detectors.victim import Victim
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime

ASKED = ("ss", "ac", "strip", "frequency")
ROWS = ("drl-clba", "tone", "spectrogram-patch", "noise", "pbsm", "jingleback", "slu", "stego")


def cell(data: str, row: str, rate: float, seed: int, asked: list[str]) -> dict[str, Any]:
    runtime = Runtime("cpu", seed)
    train, reserve, _ = sets(data, seed)
    name, settings = ATTACKS[row]
    target = seed % len(train.classes)
    poisoned = poison(train, build(name, **settings, rate=rate, target=target), seed, runtime)
    truth, mine = np.isin(np.arange(len(train)), poisoned.planted), poisoned.dataset.labels == target
    reads = any(DETECTORS[detector]().asks_network for detector in asked)
    seen = (poisoned.dataset, reserve, runtime)
    victim = Victim.trained(*seen, network=NETWORK) if reads else Victim.untrained(*seen)
    line: dict[str, Any] = {"data": data, "row": row, "rate": rate, "seed": seed, "target": target, "planted": int(truth.sum())}
    for detector in asked:
        found = DETECTORS[detector]().judge(victim)
        line[detector] = {
            "auc_in_class": area(truth[mine], found.scores[mine]), "named": [c.index for c in found.classes if c.suspect],
            "tpr": float(found.flagged[truth].mean()), "fpr": float(found.flagged[~truth].mean()), "seconds": found.timings["total"],
        }  # fmt: skip
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", nargs="+", default=["fsdd"], choices=("fsdd", "commands", "all-commands"))
    parser.add_argument("--attacks", nargs="+", default=list(ROWS), choices=[row for row in ATTACKS if row != "clean"])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.05])
    parser.add_argument("--detectors", nargs="+", default=list(ASKED), choices=list(ASKED))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    known = {(d["data"], d["row"], d["rate"], d["seed"]) for d in done if set(args.detectors) <= d.keys()}
    for seed in args.seeds:
        for data in args.data:
            for row in args.attacks:
                for rate in args.rates:
                    if (data, row, rate, seed) in known:
                        continue
                    line = cell(data, row, rate, seed, args.detectors)
                    with args.out.open("a") as out:
                        out.write(json.dumps(line | provenance("cpu", " ".join(sys.argv))) + "\n")
                    print(data, row, rate, seed, {name: line[name]["auc_in_class"] for name in args.detectors}, flush=True)


if __name__ == "__main__":
    main()
