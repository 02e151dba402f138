"""How far a class stands out in fine detail, on clean sets, warped ones and badly labelled ones: what ASSET names classes by there
(`detectors.fine_detail`), and what Confusion Training does where very many labels of a class do not fit (`detectors.doubt`).

python benchmarks/fine_detail.py --out FILE.jsonl --data cifar10 --samples 16000 --seeds 101 102 103
python benchmarks/fine_detail.py --out FILE.jsonl --data mnist --attack wanet:rate=0.05:cover_rate=0.1 --seeds 100
python benchmarks/fine_detail.py --out FILE.jsonl --data eurosat --mistakes 0.03 --seeds 100

One json line a set. "gap": the widest of a class, in the half of the runs where it is less wide (limit: 1.37 with all of ASSET's alpha),
which class it is, the true target's gap, and the AUC of the scouts inside the target class. "grain": the same of what its misfits share, of
the class that is asked about, which is the target, the class of the mistakes, or on clean data the one whose labels fit worst beside its
reserve; "named" says whether ASSET's suspects there are known again by texture, "doubted" whether Confusion Training would ask at all. The
seed draws the set and is the audit's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import real
from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset, concatenate
from tocsin.detectors import doubt, misfits
from tocsin.detectors.asset import Asset
from tocsin.detectors.asset_verdict import FIT_LEAST
from tocsin.detectors.ct import ConfusionTraining, hold_out
from tocsin.detectors.decide import Scored, tail
from tocsin.detectors.fine_detail import DISTINCT, NULL_SCALE, SHARE, FineDetail
from tocsin.detectors.separation import Parts
from tocsin.detectors.sharpen import count_distinct
from tocsin.detectors.texture_look import TextureLook
from tocsin.detectors.workbench import Bench
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime

TARGET = 0
"""Class that mistaken labels are of."""


def mistaken(train: Dataset, share: float, source: int | None, seed: int) -> Dataset:
    """``train`` in which as many samples as ``share`` of all, of the class ``source`` or of any, are labelled as class `TARGET`."""
    may = train.labels != TARGET if source is None else train.labels == source
    rows = np.random.default_rng([seed, 2]).permutation(np.flatnonzero(may))[: round(share * len(train))]
    labels = train.labels.copy()
    labels[rows] = TARGET
    return replace(train, labels=labels)


def grain(bench: Bench, train: Dataset, reserve: Dataset, groups: np.ndarray, target: int | None, runtime: Runtime) -> dict[str, object]:
    """What Confusion Training asks of the misfits of one class, by default the one that exceeds its reserve most."""
    n, nobody = len(train), np.zeros(len(train), bool)
    joined, least = concatenate(train, reserve), ConfusionTraining().pretrain_least
    pixels = Bench.of(joined.inputs, joined.labels, train, bench.device, branch=False)
    distinct = count_distinct(bench.kind.duplicates(reserve.inputs, reserve.labels, bench.device), reserve.labels, len(train.classes))
    fit = misfits.fit_of_labels(pixels, groups, least, runtime)
    much, chance = doubt.excess(fit, joined.labels, nobody, distinct)
    asked = int(np.argmin(chance)) if target is None else target
    which = np.arange(len(train.classes)) == asked
    again = misfits.fit_of_labels(pixels, groups, least, runtime, doubt.trusted(fit[:n], train.labels, which))
    assert bench.whitened is not None
    series = doubt.looks(again, joined.labels, bench.whitened, groups, nobody, distinct, which, runtime.seed)
    verdict = tail(Scored([], train.labels, train.classes, nobody, further=(series.part(slice(n)),)))
    look = TextureLook(bench, again, groups, nobody, runtime).again(asked, verdict.flagged)
    return {
        "grain": verdict.classes[asked].statistic, "grain_limit": verdict.evidence["gap needed"], "grain_class": asked,
        "excess": float(much[asked]), "log_p": float(np.log(max(chance[asked], 1e-300))),
        "times_usual": float(much[asked] / max(float(np.median(much)), 1e-9)),
        "doubted": bool(doubt.doubted(fit, joined.labels, nobody, distinct, 0.01)[asked]), "grain_first": verdict.flagged,
        "grain_again": verdict.flagged if look is None else look,
    }  # fmt: skip


def scouted(train: Dataset, reserve: Dataset, groups: np.ndarray, bench: Bench, runtime: Runtime) -> FineDetail:
    """As `Asset` does it by default."""
    how, n = Asset(), len(train)
    held = hold_out(reserve.labels, len(train.classes), how.control_share, runtime.seed)
    repeats = bench.kind.duplicates(reserve.inputs, reserve.labels, runtime.torch_device())
    distinct = count_distinct(repeats[held], reserve.labels[held], len(train.classes))
    parts = Parts(groups, torch.from_numpy(n + np.flatnonzero(~held)), n + np.flatnonzero(held))
    labels = np.concatenate([train.labels, reserve.labels[held]])
    return FineDetail.scouted(bench, parts, labels, distinct, how._scouts, runtime)


def measured(verdict: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """TPR and FPR of ``verdict`` (n,) bool, over the whole set."""
    return {"tpr": float(verdict[truth].mean()), "fpr": float((verdict & ~truth).sum() / np.count_nonzero(~truth))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", choices=("cifar10", "mnist", "eurosat", "gtsrb"), default="cifar10")
    parser.add_argument("--samples", type=int, default=16_000, help="drawn from what is left beside the reserve")
    parser.add_argument("--attack", default="none", help="NAME:setting=value:...")
    parser.add_argument("--mistakes", type=float, default=0.0, help="share of all samples that is wrongly labelled as class 0")
    parser.add_argument("--mistaken", type=int, help="the class that all of these are of (default: any)")
    parser.add_argument("--grain", action="store_true", help="ask Confusion Training's question too (half a minute more)")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    args = parser.parse_args()
    name, *words = args.attack.split(":")
    attack = build(name, **dict(word.split("=", 1) for word in words))
    for seed in args.seeds:
        train, reserve = real.split(args.data, seed)
        train = train[np.random.default_rng([seed, 1]).permutation(len(train))[: args.samples]]
        train = mistaken(train, args.mistakes, args.mistaken, seed) if args.mistakes else train
        poisoned, runtime, began = poison(train, attack, seed), Runtime("cpu", seed), time.perf_counter()
        data, n, target = poisoned.dataset, len(train), getattr(attack, "target", TARGET)
        joined = concatenate(data, reserve)
        bench = Bench.in_texture(joined.inputs, joined.labels, data, runtime.torch_device())
        groups = bench.kind.duplicates(data.inputs, data.labels, bench.device)
        detail = scouted(data, reserve, groups, bench, runtime)
        series = detail.series(np.ones(len(train.classes), bool))
        verdict = tail(Scored(series.rounds, data.labels, train.classes, np.zeros(n, bool), None, 0.01, NULL_SCALE, SHARE))
        gaps = [entry.statistic for entry in verdict.classes]
        truth, mine = np.isin(np.arange(n), poisoned.planted), data.labels == target
        line = {
            "data": args.data, "samples": n, "reserve": len(reserve), "attack": args.attack, "seed": seed,
            "mistakes": args.mistakes, "mistaken": args.mistaken, "gap": max(gaps), "limit": verdict.evidence["gap needed"],
            "class": int(np.argmax(gaps)), "asked_by_default": bool(np.median(detail.distinct) >= DISTINCT),
            "distinct": int(np.median(detail.distinct)),
        }  # fmt: skip
        if args.grain:
            line |= grain(bench, data, reserve, groups, target if truth.any() or args.mistakes else None, runtime)
            verdicts = {name: line.pop(name) for name in ("grain_first", "grain_again")}
            for when, flags in verdicts.items() if truth.any() else ():
                line |= {f"{when}_{of}": value for of, value in measured(flags, truth).items()}
        if truth.any() or max(gaps) > verdict.evidence["gap needed"]:
            asked = target if truth.any() else int(np.argmax(gaps))
            pixels = Bench.of(joined.inputs, joined.labels, data, bench.device, branch=False)
            flagged, total = detail.suspects([asked], misfits.fit_of_labels(pixels, groups, FIT_LEAST, runtime))
            line["named"] = bool(gaps[asked] > line["limit"] and flagged.any())
        if truth.any():
            aucs = [float(roc_auc_score(truth[mine], scores[:n][mine])) for scores in (np.mean(detail.logits, axis=0), total)]
            line |= {"target_gap": gaps[target], "scouts_auc_in_class": aucs[0], "auc_in_class": aucs[1], **measured(flagged, truth)}
        line["seconds"] = time.perf_counter() - began
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in line.items()}, flush=True)
        with args.out.open("a") as out:
            out.write(json.dumps({**line, **provenance("cpu", " ".join(sys.argv))}) + "\n")


if __name__ == "__main__":
    main()
