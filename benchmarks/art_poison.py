"""Sets poisoned by another package's own classes, read in through the audit: what ART plants is found or it is not.

    python benchmarks/art_poison.py --out benchmarks/results/art_poison.jsonl

Needs adversarial-robustness-toolbox (development only) and CIFAR-10 beside the checkout (real.py). Each set is written as an .npz, with
the reserve beside it, and loaded from there; the audit sees nothing else. One json line a set and detector: TPR and FPR at the
detector's own cut, and the AUC of its scores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import real
import tocsin
from passive_speed import area, where_from

TARGET = 0


def triggers() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Name -> ART's perturbation of pictures (N, H, W, C) in [0, 1]."""
    from art.attacks.poisoning.perturbations import add_pattern_bd, add_single_bd

    return {"pattern": partial(add_pattern_bd, channels_first=False), "single-pixel": add_single_bd}


def poisoned(x: np.ndarray, y: np.ndarray, trigger: Callable[[np.ndarray], np.ndarray], rate: float, seed: int) -> tuple[np.ndarray, ...]:
    """(pictures uint8, labels, (N,) bool which were planted): ART's PoisoningAttackBackdoor on a share ``rate`` of all samples."""
    from art.attacks.poisoning import PoisoningAttackBackdoor

    rows = np.sort(np.random.default_rng(seed).choice(len(y), round(rate * len(y)), replace=False))
    wanted = np.eye(int(y.max()) + 1)[np.full(len(rows), TARGET)]
    pictures, labels = PoisoningAttackBackdoor(trigger).poison(x[rows].astype(np.float32) / 255, wanted)
    out, answers, planted = x.copy(), y.copy(), np.zeros(len(y), bool)
    out[rows], answers[rows], planted[rows] = np.round(pictures * 255).astype(np.uint8), labels.argmax(axis=1), True
    return out, answers, planted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10000)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detectors", default="ct,ss,ac,scan,spectre,beatrix,strip")
    parser.add_argument("--triggers", nargs="+", default=["pattern", "single-pixel"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    data, reserve = real.split("cifar10", args.seed)
    made = triggers()
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "reserve.npz", x=reserve.inputs, y=reserve.labels)
        for name in args.triggers:
            x, y, planted = poisoned(data.inputs[: args.samples], data.labels[: args.samples], made[name], args.rate, args.seed)
            np.savez(Path(folder) / "train.npz", x=x, y=y)
            began = time.perf_counter()
            train, clean = (tocsin.load(Path(folder) / f"{part}.npz") for part in ("train", "reserve"))
            report = tocsin.audit(train, clean, detector=args.detectors, seed=args.seed, device=args.device, canaries=False)
            about: dict[str, Any] = {"trigger": name, "samples": len(y), "planted": int(planted.sum()), "seed": args.seed}
            inside = y == TARGET
            for found in (report.findings, *report.panel):
                line = {
                    **about, "detector": found.detector, "tpr": float(found.flagged[planted].mean()),
                    "fpr": float(found.flagged[~planted].mean()), "auc": area(found.scores[planted], found.scores[~planted]),
                    "auc in the target class": area(found.scores[planted], found.scores[inside & ~planted]),
                }  # fmt: skip
                print(json.dumps(line), flush=True)
                with args.out.open("a") as out:
                    out.write(json.dumps({**line, "seconds of all": time.perf_counter() - began, **where_from()}) + "\n")


if __name__ == "__main__":
    main()
