"""The audit's table for tables: data x attack x rate x seed, one json line a cell with provenance; finished cells are not repeated.

python benchmarks/table_audit.py --out benchmarks/results/table_audit.jsonl --seeds 0 1 2
python benchmarks/table_audit.py --out benchmarks/results/table_audit.jsonl --seeds 0 1 2 3 4 5 6 7 8 9 --rows none
python benchmarks/table_audit.py --out benchmarks/results/table_audit.jsonl --seeds 0 1 2 --data ember-shaped --samples 60000
python benchmarks/table_audit.py --out benchmarks/results/table_panel.jsonl --seeds 100 --data pe_headers --rows constrained \\
    --trainings 0 --panel asset ss ac scan spectre beatrix

Each line: the verdict, the share of planted rows (TPR) and of others (FPR) flagged, the same and the area under the curve of each auditor
and of each detector of the ``--panel``, the share of the true trigger's columns that is named, and the ASR of both victims (MLP,
boosting) trained on clean rows (``clean``: what the pattern does without any poison), on clean rows less as many random ones as the audit
flagged (``fewer``), on the poisoned rows, and on what the audit kept (``purged``). From one training to the next the ASR of a pattern
that the rows do not show may move by tens of points, so each is the mean of several ``--trainings`` with the same seeds in all states,
and what purged has over clean, and over fewer, comes with its standard error.

python benchmarks/render.py benchmarks/results/table_audit.jsonl   # the tables of docs/tables-detection.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

import real
from tocsin.attacks.base import Poisoned
from tocsin.attacks.learned import LearnedAttack
from tocsin.bench.provenance import peak_rss_mb, provenance
from tocsin.data.dataset import Dataset
from tocsin.data.ember_shaped import EmberShaped
from tocsin.detectors.base import Findings
from tocsin.detectors.tabular import Tabular
from tocsin.panel import configured, hear
from tocsin.poisoning import build, poison
from tocsin.report import records
from tocsin.report.model import Report
from tocsin.runtime import Runtime
from tocsin.victim import BOOSTING, Logits, Trial, measured, trained

SIZES = {"pe_headers": (11_417, 1_500), "clamp": (3_707, 600)}
"""Audited and reserve rows, of distinct ones; the rest is the test."""
RESERVE, TEST, BEHIND = 5_000, 5_000, 10_000_000
"""EMBER-shaped: rows of the reserve and of the test, drawn from behind those of any training set."""
ROWS = {
    "constrained": ("explanation", {}),
    "unconstrained": ("explanation", {"constraints": "none"}),
    "combined": ("explanation", {"constraints": "none", "selector": "combined"}),
    "none": ("none", {}),
}
VICTIMS = ("mlp", BOOSTING)
POISONED = 5
"""Trainings on poisoned rows at most: what the poison does is no close call."""
KEY = ("data", "samples", "row", "rate", "seed", "members", "panel", "trainings")
"""What a finished cell is known by."""
MARK = 0.05
"""After the purge the ASR may be this much above that of victims trained on clean rows."""


@dataclass(frozen=True)
class Asked:
    """What a cell is asked for besides the verdict."""

    members: tuple[str, ...]
    panel: tuple[str, ...]
    trainings: int


def split(data: str, samples: int, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """(audited, reserve, test)."""
    if data == "ember-shaped":
        table = EmberShaped(seed)
        return table.dataset(samples), table.dataset(RESERVE, BEHIND), table.dataset(TEST, BEHIND + RESERVE)
    table = real.malware(data)
    audited, reserve = SIZES[data]
    parts = np.split(np.random.default_rng([seed, 0x7AB]).permutation(len(table)), [audited, audited + reserve])
    return table[parts[0]], table[parts[1]], table[parts[2]]


def cell(data: str, samples: int, row: str, rate: float, seed: int, asked: Asked, victims: Victims) -> dict[str, Any]:
    """One audit of one poisoned table. The attack and the truth never reach the audit."""
    runtime = Runtime(device="cpu", seed=seed)
    train, reserve, test = split(data, samples, seed)
    name, settings = ROWS[row]
    poisoned = poison(train, build(name, **settings, **({} if name == "none" else {"rate": rate})), seed, runtime)
    truth = np.zeros(len(train), bool)
    truth[poisoned.planted] = True
    method = Tabular(members=asked.members)
    heard = [member.inspect(poisoned.dataset, reserve, runtime) for member in method.built()]
    found = method.merged(heard, poisoned.dataset, reserve, runtime)
    panel = hear(configured(asked.panel, "fast", {}, train.kind), poisoned.dataset, reserve, runtime)
    line: dict[str, Any] = {
        "data": data, "samples": len(train), "row": row, "rate": rate, "seed": seed, **asdict(asked), "recipe": poisoned.recipe,
        "planted": int(truth.sum()), "found": found.found, **said(found, truth),
        "by_member": {one.detector: said(one, truth) for one in heard}, "by_panel": {one.detector: said(one, truth) for one in panel},
        "peak_rss_mb": peak_rss_mb(),
    }  # fmt: skip
    if isinstance(poisoned.attack, LearnedAttack):
        line["trigger_columns"] = named(Report(poisoned.dataset, reserve, found), poisoned.attack.learned["columns"].tolist())
        if asked.trainings:
            trial = Trial.of(poisoned.attack, test)
            line["victims"] = {one: victims.compared(one, train, poisoned, found.flagged, trial, asked.trainings) for one in VICTIMS}
    return line


def said(found: Findings, truth: np.ndarray) -> dict[str, Any]:
    """What one auditor says of the rows: ``false`` and ``true`` flags, their shares FPR and TPR, and the area under the curve."""
    return {
        "suspect_classes": [c.index for c in found.classes if c.suspect], "p": [c.p_value for c in found.classes],
        "false": int(found.flagged[~truth].sum()), "true": int(found.flagged[truth].sum()),
        "fpr": float(found.flagged[~truth].mean()), "tpr": float(found.flagged[truth].mean()) if truth.any() else None,
        "auc": float(roc_auc_score(truth, found.scores)) if truth.any() else None, "seconds": found.timings["total"],
    }  # fmt: skip


def named(report: Report, places: list[int]) -> dict[str, Any]:
    """Which share of the trigger's columns ``places`` is named: by the auditors' rules (``evidence``) and by the sentences that a person
    reads, on the page and in the terminal (``report``). ``other``: columns that these name besides."""
    columns = report.train.columns or ()
    trigger = {columns[k].name for k in places}
    rules = {pair["column"] for rule in report.findings.evidence["rules"].values() for pair in rule}
    read = {columns[pair.column].name for entry in report.shared for rule in entry.shared.rules for pair in rule.pairs[: records.NAMED]}
    return {
        "evidence": len(trigger & rules) / len(trigger), "report": len(trigger & read) / len(trigger),
        "other": sorted(read - trigger), "sentences": list(records.sentences(report)),
    }  # fmt: skip


class Victims:
    """Victims trained on the rows of one data set and seed; equal rows are trained on once, whatever attack they come from."""

    def __init__(self, test: Dataset, seed: int) -> None:
        self.test, self.seed = test, seed
        self._known: dict[tuple[str, str, int], Logits] = {}

    def compared(
        self, victim: str, train: Dataset, poisoned: Poisoned, flagged: np.ndarray, trial: Trial, trainings: int
    ) -> dict[str, Any]:
        """ASR and accuracy of ``victim`` in the states, and what separates purged from the two clean ones; without flags no purge."""

        def state(rows: Dataset, left_out: Callable[[int], np.ndarray], count: int = trainings) -> dict[str, Any]:
            results = [measured(self._trained(victim, rows, left_out(k), k), self.test, trial) for k in range(count)]
            asr = np.array([result.asr for result in results], np.float64)
            return {
                "asr": asr.mean(), "sd": asr.std(ddof=1) if count > 1 else None, "each": asr.round(4).tolist(),
                "acc": float(np.mean([result.acc for result in results])), "fpr": float(np.mean([result.fpr for result in results])),
            }  # fmt: skip

        none = np.zeros(len(train), bool)
        out = {"clean": state(train, lambda k: none), "poisoned": state(poisoned.dataset, lambda k: none, min(trainings, POISONED))}
        if flagged.any():
            out["fewer"] = state(train, lambda k: self._as_many(train.labels, flagged, k))
            out["purged"] = state(poisoned.dataset, lambda k: flagged)
            for other in ("clean", "fewer"):
                out[f"purged_over_{other}"] = excess(np.array(out["purged"]["each"]), np.array(out[other]["each"]))
        return out

    def _as_many(self, labels: np.ndarray, flagged: np.ndarray, training: int) -> np.ndarray:
        """(N,) bool: random rows, of each class as many as ``flagged`` (N,)."""
        rng, out = np.random.default_rng([self.seed, training, 0xFE3]), np.zeros(len(labels), bool)
        for k, count in enumerate(np.bincount(labels[flagged])):
            out[rng.permutation(np.flatnonzero(labels == k))[:count]] = True
        return out

    def _trained(self, victim: str, rows: Dataset, left_out: np.ndarray, training: int) -> Logits:
        # Boosting draws nothing, so each training leaves a hundredth of the rows out besides: in all states the same.
        seed = 1000 * self.seed + training
        kept = ~left_out
        kept[np.random.default_rng([seed, 0x1EAF]).permutation(len(rows))[: len(rows) // 100]] = False
        chosen = rows[kept]
        key = (chosen.fingerprint, victim, training)
        if key not in self._known:
            self._known[key] = trained(chosen, victim, runtime=Runtime("cpu", seed))
        return self._known[key]


def excess(purged: np.ndarray, clean: np.ndarray) -> dict[str, Any]:
    """How far the mean ASR of ``purged`` (T,) is above that of ``clean`` (T,), trained with the same seeds: ``mean``, its standard error
    ``se``, and whether the mark of `MARK` is ``met`` or ``missed`` with 1.64 standard errors to spare (one side of 95 %),
    or ``open``."""
    apart = purged - clean
    mean, se = float(apart.mean()), float(apart.std(ddof=1) / np.sqrt(len(apart))) if len(apart) > 1 else float("inf")
    return {
        "mean": mean, "se": se if np.isfinite(se) else None,
        "mark": "met" if mean + 1.64 * se <= MARK else "missed" if mean - 1.64 * se > MARK else "open",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", nargs="+", default=list(SIZES), choices=[*SIZES, "ember-shaped"])
    parser.add_argument("--samples", type=int, default=60_000, help="of ember-shaped")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01])
    parser.add_argument("--members", nargs="+", default=list(Tabular().members))
    parser.add_argument("--panel", nargs="*", default=[], help="further detectors, whose figures are noted")
    parser.add_argument("--trainings", type=int, default=10, help="of each victim on clean and on purged rows; 0: no victims")
    args = parser.parse_args()
    asked = Asked(tuple(args.members), tuple(args.panel), args.trainings)
    lines = map(json.loads, args.out.read_text().splitlines()) if args.out.exists() else ()
    done = {json.dumps([line[k] for k in KEY]) for line in lines}
    for seed in args.seeds:
        for data in args.data:
            samples = SIZES[data][0] if data in SIZES else args.samples
            victims = Victims(split(data, samples, seed)[2], seed)
            for row in args.rows:
                for rate in args.rates:
                    if json.dumps([data, samples, row, rate, seed, *asdict(asked).values()]) in done:
                        continue
                    line = cell(data, samples, row, rate, seed, asked, victims)
                    with args.out.open("a") as out:
                        out.write(json.dumps({**line, **provenance("cpu", " ".join(sys.argv))}) + "\n")
                    print(data, row, rate, seed, "found" if line["found"] else "silent", "TPR", line["tpr"], "FPR", line["fpr"], flush=True)


if __name__ == "__main__":
    main()
