"""The audit's table: data x attack x seed, one json line a cell with provenance; finished cells are not repeated.

python benchmarks/audit_table.py --out benchmarks/results/audit_table.jsonl --seeds 0 1 2
python benchmarks/audit_table.py --out benchmarks/results/audit_table.jsonl --seeds 0 1 2 --detector proactive  (each member's answer too)
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import real
from overheard import HEARD, overheard
from tocsin.auditing import audit
from tocsin.bench.provenance import peak_rss_mb, provenance
from tocsin.detectors import DETECTORS
from tocsin.detectors.proactive import Proactive
from tocsin.poisoning import build, poison
from tocsin.report.model import Report
from tocsin.runtime import Runtime

ROWS: dict[str, tuple[str, str, dict[str, float]]] = {
    "BadNet 0.3 %": ("cifar10", "badnet", {"rate": 0.003}),
    "Blend 0.3 %": ("cifar10", "blend", {"rate": 0.003}),
    "CIFAR-10 clean": ("cifar10", "none", {}),
    "MNIST clean": ("mnist", "none", {}),
    "GTSRB clean": ("gtsrb", "none", {}),
    "EuroSAT clean": ("eurosat", "none", {}),
    "TaCT 0.3 % + 0.3 %": ("cifar10", "tact", {"rate": 0.003, "cover_rate": 0.003}),
    "SIG 2 %": ("cifar10", "sig", {"rate": 0.02}),
    "BadNet 1 %": ("cifar10", "badnet", {"rate": 0.01}),
    "Blend 1 %": ("cifar10", "blend", {"rate": 0.01}),
    "Trojan 1 %": ("cifar10", "trojan", {"rate": 0.01}),
    "BadNet 0.1 %": ("cifar10", "badnet", {"rate": 0.001}),
    "Blend 0.1 %": ("cifar10", "blend", {"rate": 0.001}),
    "BadNet 5 %": ("cifar10", "badnet", {"rate": 0.05}),
    "Blend 5 %": ("cifar10", "blend", {"rate": 0.05}),
    "BadNet 10 %": ("cifar10", "badnet", {"rate": 0.1}),
    "Blend 10 %": ("cifar10", "blend", {"rate": 0.1}),
    "GTSRB BadNet 1 %": ("gtsrb", "badnet", {"rate": 0.01}),
    "GTSRB Blend 1 %": ("gtsrb", "blend", {"rate": 0.01}),
    "Adap-Blend 0.3 % + 0.3 %": ("cifar10", "adap-blend", {"rate": 0.003, "cover_rate": 0.003}),
    # The papers' other attacks at their rates. Those that learn do so on the inspected pictures.
    "Trojan 0.3 %": ("cifar10", "trojan", {"rate": 0.003}),
    "CL 0.3 %": ("cifar10", "cl", {"rate": 0.003}),
    "Adap-Patch 0.3 % + 0.6 %": ("cifar10", "adap-patch", {"rate": 0.003, "cover_rate": 0.006}),
    "WaNet 5 % + 10 %": ("cifar10", "wanet", {"rate": 0.05, "cover_rate": 0.1}),
    "Dynamic 0.3 %": ("cifar10", "dynamic", {"rate": 0.003}),
    "ISSBA 2 %": ("cifar10", "issba", {"rate": 0.02}),
    "Narcissus 0.05 %": ("cifar10", "narcissus", {"rate": 0.0005}),
    "All to all 5 %": ("cifar10", "badnet-all-to-all", {"rate": 0.05}),
}


def cell(row: str, seed: int, detector: str, preset: str, jpeg: bool, canaries: bool, flags: Path) -> dict[str, object]:
    """One audit of one poisoned set. The attack, its rate and the truth never reach the audit. Leaves its flags in ``flags``."""
    data, name, settings = ROWS[row]
    train, reserve = real.split(data, seed)
    if jpeg:  # a reserve from a slightly different source: the test pictures, which are JPEG
        test = real.cifar10_test()
        reserve = test[np.random.default_rng(seed).permutation(len(test))[: real.RESERVE]]
    poisoned = poison(train, build(name, **settings), seed)
    report = audit(poisoned.dataset, reserve, detector=detector, preset=preset, runtime=Runtime(seed=seed), canaries=canaries)
    flags.mkdir(parents=True, exist_ok=True)
    who = "" if detector == "ct" else f"{detector}_"
    np.save(flags / f"{row}_{seed}_{who}{preset}_{int(jpeg)}{int(canaries)}.npy".replace(" ", ""), report.flagged)
    truth = np.zeros(len(train), bool)
    truth[poisoned.planted] = True
    heard = {
        one.detector: {
            **shares(one.flagged[: len(train)], truth), "auc": area(truth, one.scores[: len(train)]), "gap": one.evidence.get("gap"),
        }
        for one in HEARD
    }  # fmt: skip
    return {
        "row": row, "seed": seed, "detector": detector, "preset": preset, "jpeg_reserve": jpeg, "with_canaries": canaries, "data": data,
        "recipe": poisoned.recipe, **measured(report, poisoned.planted, poisoned.covers), "by_member": heard or None,
    }  # fmt: skip


def measured(report: Report, planted: np.ndarray, covers: np.ndarray) -> dict[str, object]:
    """What came out, given the rows that were planted and those that carry the trigger under their true label."""
    truth, covering = np.zeros(len(report.flagged), bool), np.zeros(len(report.flagged), bool)
    truth[planted], covering[covers] = True, True
    found = report.findings
    return {
        "samples": len(truth), "planted": int(truth.sum()), "verdict": report.verdict, "confidence": found.confidence,
        **shares(report.flagged, truth),
        "auc": area(truth, found.scores),
        "covers_flagged": float(report.flagged[covering].mean()) if covering.any() else None,
        "suspect_classes": [c.index for c in found.classes if c.suspect],
        "gap": found.evidence.get("gap"), "view": found.evidence.get("view"),
        "canaries": {c.trigger: [c.found, c.planted] for c in report.canaries},
        "seconds": report.seconds, "timings": dict(found.timings),
        "images_trained": found.evidence.get("images trained"), "peak_rss_mb": peak_rss_mb(),
    }  # fmt: skip


def shares(flagged: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    return {"tpr": float(flagged[truth].mean()) if truth.any() else None, "fpr": float(flagged[~truth].mean())}


def area(truth: np.ndarray, scores: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores)) if truth.any() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--detector", default="ct")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--jpeg", action="store_true", help="take the reserve from the JPEG test pictures (CIFAR-10)")
    parser.add_argument("--no-canaries", action="store_true")
    args = parser.parse_args()
    DETECTORS[Proactive.name] = overheard(Proactive)
    key = ("row", "seed", "detector", "preset", "jpeg_reserve", "with_canaries")
    lines = map(json.loads, args.out.read_text().splitlines()) if args.out.exists() else ()
    done = {tuple({"detector": "ct", **line}[k] for k in key) for line in lines}
    for seed in args.seeds:
        for row in args.rows:
            if (row, seed, args.detector, args.preset, args.jpeg, not args.no_canaries) in done:
                continue
            result = {
                **cell(row, seed, args.detector, args.preset, args.jpeg, not args.no_canaries, args.out.with_suffix(".flags")),
                **provenance("cpu", " ".join(sys.argv)),
            }
            with args.out.open("a") as out:
                out.write(json.dumps(result) + "\n")
            print(row, seed, result["verdict"], "TPR", result["tpr"], "FPR", result["fpr"], f"{result['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
