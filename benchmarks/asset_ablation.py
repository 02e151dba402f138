"""What each change to the published ASSET is worth: one at a time, on 10,000 pictures of CIFAR-10. One json line a run.

    python benchmarks/asset_ablation.py --out FILE.jsonl --attack none badnet:rate=0.01 blend:rate=0.01 --seeds 0

A row is the default with one thing as published, or with another base set (the reserve is half of it base); the last ones are the published
procedure whole, with networks that a CPU can train. Each line also says what other thresholds make of the same scores. TPR, FPR: of what
the row's own decision flags; AUC of the mean of its separators' scores; how many of the 20 that scouts rank highest are poison.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from asset_settings import split
from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset
from tocsin.detectors import asset_verdict
from tocsin.detectors.asset import Asset
from tocsin.detectors.asset_verdict import Seen
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime

SAMPLES, RESERVE = 10_000, 2_000
SMALL = {"preset": "paper", "victim_network": "small", "victim_epochs": 8, "network": "small"}
ROWS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "features of an ordinary network": {"features": "victim", "hear_scouts": False},
    "a scout a batch": {"scout": "batch", "scout_labels": False},
    "features not standardised": {"scout_standardised": False},
    "scouts do not read labels": {"scout_labels": False},
    "select ao": {"select": "ao"},
    "select half": {"select": "half"},
    "batch norm of the concentrated alone": {"whole_batch": False},
    "not cross-fitted": {"cross_fit": False},
    "reserve 200": {"reserve": 200},
    "reserve 500": {"reserve": 500},
    "reserve poisoned, a tenth of the rate": {"poisoned": 0.1},
    "reserve poisoned at the rate": {"poisoned": 1.0},
    "published, small networks": SMALL,
    "published, small networks, 12 passes": {**SMALL, "passes": 12.0},
}
THRESHOLDS = ("tail", "control", "scale-free", "intended", "shipped")


def attacked(data: Dataset, row: str, seed: int, share: float = 1.0) -> tuple[Dataset, np.ndarray]:
    """(``data`` after the attack ``row``, which samples it planted), at ``share`` of its rate."""
    name, *words = row.split(":")
    given: dict[str, Any] = dict(word.split("=", 1) for word in words)
    if "rate" in given:
        given["rate"] = float(given["rate"]) * share
    made = poison(data, build(name, **given), seed, Runtime("cpu", seed))
    return made.dataset, np.isin(np.arange(len(data)), made.planted)


def cell(row: Mapping[str, Any], attack: str, seed: int) -> dict[str, Any]:
    how = dict(row)
    size, share, preset = how.pop("reserve", RESERVE), how.pop("poisoned", 0.0), how.pop("preset", "fast")
    train, reserve, _, _ = split(SAMPLES, size, 0, seed, None, 2)
    train, truth = attacked(train, attack, seed)
    reserve = attacked(reserve, attack, seed + 1000, share)[0] if share else reserve
    detector = Asset.preset_for("image", preset, **how)
    runtime, kept = Runtime("cpu", seed), list[Seen]()
    decided = asset_verdict.decided

    def heard(asked: Asset, seen: Seen) -> Any:
        kept.append(seen)
        return decided(asked, seen)

    asset_verdict.decided = heard
    began = time.monotonic()
    try:
        found = detector.inspect(train, reserve, runtime, victim=detector.own_victim(train, reserve, runtime))
    finally:
        asset_verdict.decided = decided
    (seen,), seconds = kept, time.monotonic() - began
    mean = np.mean(seen.scores, axis=0)[: len(train)]
    others, measured = {}, len(seen.parts.control) > 0 and detector.cross_fit
    for rule in THRESHOLDS:
        if measured or rule not in asset_verdict.DECISIONS:
            other = replace(detector, decision=rule, control_share=max(detector.control_share, 0.1))
            others[rule] = rates(decided(other, replace(seen, detail=None))[0].flagged, truth)
    highest = [run["scout's highest"] for run in found.evidence["runs"] if "scout's highest" in run]
    return {
        "planted": int(truth.sum()), "found": found.found, **rates(found.flagged, truth), "p": [c.p_value for c in found.classes],
        "auc": float(roc_auc_score(truth, mean)) if truth.any() else None, "by_threshold": others,
        "scouts_precision": [float(truth[rows].mean()) for rows in highest], "seconds": seconds,
    }  # fmt: skip


def rates(flagged: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    return {"tpr": float(flagged[truth].mean()) if truth.any() else None, "fpr": float(flagged[~truth].mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--attack", nargs="+", default=["none", "badnet:rate=0.01", "blend:rate=0.01"])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    done = {tuple(json.loads(line)[k] for k in ("row", "attack", "seed")) for line in args.out.open()} if args.out.exists() else set()
    for seed in args.seeds:
        for row in args.rows:
            for attack in args.attack:
                if (row, attack, seed) in done or (attack == "none" and "poisoned" in ROWS[row]):
                    continue
                start = {"row": row, "attack": attack, "seed": seed, "samples": SAMPLES, "settings": ROWS[row]}
                line = {**start, **cell(ROWS[row], attack, seed)}
                with args.out.open("a") as out:
                    out.write(json.dumps({**line, **provenance("cpu", " ".join(sys.argv))}) + "\n")
                told = {key: line[key] for key in ("tpr", "fpr", "auc", "scouts_precision")}
                print(row, "|", attack, seed, told, round(line["seconds"]), "s", flush=True)


if __name__ == "__main__":
    main()
