"""How far a class stands out in fine detail, on clean sets and on warped ones: what ASSET names classes by there, and nothing else.

python benchmarks/fine_detail.py --out FILE.jsonl --data cifar10 --samples 16000 --seeds 101 102 103
python benchmarks/fine_detail.py --out FILE.jsonl --data mnist --attack wanet:rate=0.05:cover_rate=0.1 --seeds 100

One json line a set: the widest gap of a class, in the half of the runs where it is less wide (limit: 0.81 with all of ASSET's alpha),
which class it is, the true target's gap, and the AUC of the scouts inside the target class. The seed draws the set and is the audit's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import real
from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset, concatenate
from tocsin.detectors.asset import Asset
from tocsin.detectors.ct import hold_out
from tocsin.detectors.decide import Scored, tail
from tocsin.detectors.fine_detail import DISTINCT, NULL_SCALE, SHARE, FineDetail
from tocsin.detectors.separation import Parts
from tocsin.detectors.sharpen import count_distinct
from tocsin.detectors.workbench import Bench
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime


def scouted(train: Dataset, reserve: Dataset, runtime: Runtime) -> FineDetail:
    """As `Asset` does it by default."""
    how, n, device = Asset(), len(train), runtime.torch_device()
    held = hold_out(reserve.labels, len(train.classes), how.control_share, runtime.seed)
    joined = concatenate(train, reserve)
    bench = Bench.in_texture(joined.inputs, joined.labels, train, device)
    groups = bench.kind.duplicates(train.inputs, train.labels, device)
    repeats = bench.kind.duplicates(reserve.inputs, reserve.labels, device)
    distinct = count_distinct(repeats[held], reserve.labels[held], len(train.classes))
    parts = Parts(groups, torch.from_numpy(n + np.flatnonzero(~held)), n + np.flatnonzero(held))
    labels = np.concatenate([train.labels, reserve.labels[held]])
    return FineDetail.scouted(bench, parts, labels, distinct, how._scouts, runtime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", choices=("cifar10", "mnist", "eurosat", "gtsrb"), default="cifar10")
    parser.add_argument("--samples", type=int, default=16_000, help="drawn from what is left beside the reserve")
    parser.add_argument("--attack", default="none", help="NAME:setting=value:...")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    args = parser.parse_args()
    name, *words = args.attack.split(":")
    attack = build(name, **dict(word.split("=", 1) for word in words))
    for seed in args.seeds:
        train, reserve = real.split(args.data, seed)
        train = train[np.random.default_rng([seed, 1]).permutation(len(train))[: args.samples]]
        poisoned, runtime, began = poison(train, attack, seed), Runtime("cpu", seed), time.perf_counter()
        detail = scouted(poisoned.dataset, reserve, runtime)
        n, labels, target = len(train), poisoned.dataset.labels, getattr(attack, "target", 0)
        series = detail.series(np.ones(len(train.classes), bool))
        nobody = np.zeros(n, bool)
        verdict = tail(Scored(series.rounds, labels, train.classes, nobody, None, 0.01, NULL_SCALE, SHARE))
        gaps = [entry.statistic for entry in verdict.classes]
        truth, mine = np.isin(np.arange(n), poisoned.planted), labels == target
        line = {
            "data": args.data, "samples": n, "reserve": len(reserve), "attack": args.attack, "seed": seed, "gap": max(gaps),
            "limit": verdict.evidence["gap needed"], "class": int(np.argmax(gaps)), "target_gap": gaps[target] if truth.any() else None,
            "auc_in_class": float(roc_auc_score(truth[mine], np.mean(detail.logits, axis=0)[:n][mine])) if truth.any() else None,
            "asked_by_default": bool(np.median(detail.distinct) >= DISTINCT), "distinct": int(np.median(detail.distinct)),
            "seconds": time.perf_counter() - began, **provenance("cpu", " ".join(sys.argv)),
        }  # fmt: skip
        with args.out.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print({key: line[key] for key in ("data", "attack", "seed", "gap", "class", "target_gap", "auc_in_class", "seconds")}, flush=True)


if __name__ == "__main__":
    main()
