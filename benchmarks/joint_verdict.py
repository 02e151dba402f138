"""The joint verdict of a grid's poisoned sets and, out of the same audits, what each member says: no network is trained for a gate.

python benchmarks/joint_verdict.py benchmarks/grids/joint.toml --shared DIR/shared --out benchmarks/results/joint_verdict.jsonl --seeds 1 2

Sets are those that `tocsin bench` makes of the grid, to the pixel, whose gates its own lines hold. One json line a set: TPR, FPR and AUC of
the joint verdict, then of each member at its part of alpha, with its gap, and the classes that it would name with all of alpha.
Finished lines are not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from overheard import HEARD, overheard
from tocsin.auditing import controlled
from tocsin.bench.cell import compare
from tocsin.bench.grid import read_grid
from tocsin.bench.provenance import provenance
from tocsin.bench.shared import Shared
from tocsin.bench.splits import load_split
from tocsin.detectors import DETECTORS
from tocsin.detectors.combined import Combined
from tocsin.runtime import Runtime

ALPHA = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--shared", type=Path, required=True, help="folder of poisoned sets, of a bench or its own")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--attacks", nargs="+", help="labels of the grid's rows (default: all)")
    parser.add_argument("--detector", default="proactive", help="that is asked; its members by themselves only if it has any")
    args = parser.parse_args()
    detector = DETECTORS[args.detector]
    detector = overheard(detector) if issubclass(detector, Combined) else detector
    grid, (data, *_) = read_grid(args.grid), read_grid(args.grid).data
    lines = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(line["seed"], line["attack"]) for line in lines}
    for seed in args.seeds:
        shared = Shared(args.shared, Runtime("cpu", seed))
        split = load_split(data, seed, shared.runtime)
        for choice in grid.attacks:
            if (seed, choice.label) in done or choice.label not in (args.attacks or [choice.label]):
                continue
            planted = shared.poisoned(split, choice.build(), seed)
            poisoned, began = planted.poisoned, time.perf_counter()
            found, canaries = controlled(detector.preset("fast"), poisoned.dataset, split.reserve, shared.runtime)
            members = {}
            for one in HEARD:
                mine = replace(one, scores=one.scores[: len(split.train)], flagged=one.flagged[: len(split.train)])
                gaps = {name: value for name, value in one.evidence.items() if name in ("gap", "gaps", "named by")}
                members[one.detector] = {
                    **compare(mine, poisoned), **gaps, "named_with_all_of_alpha": [c.index for c in one.classes if c.p_value <= ALPHA],
                }  # fmt: skip
            line = {
                "data": data.name, "seed": seed, "detector": args.detector, "attack": choice.label, "recipe": poisoned.recipe,
                "samples": len(split.train),
                "planted": len(poisoned.planted), "covers": len(poisoned.covers), "joint": compare(found, poisoned), "members": members,
                "canaries": {c.trigger: [c.found, c.planted] for c in canaries}, "seconds": time.perf_counter() - began,
                **provenance("cpu", " ".join(sys.argv)),
            }  # fmt: skip
            with args.out.open("a") as out:
                out.write(json.dumps(line, default=float) + "\n")
            told = {"joint": line["joint"], **members}
            print(seed, choice.label, {name: (one["tpr"], one["fpr"], one["suspect_classes"]) for name, one in told.items()}, flush=True)


if __name__ == "__main__":
    main()
