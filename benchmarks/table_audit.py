"""The audit's table for tables: data x attack x rate x seed, one json line a cell with provenance; finished cells are not repeated.

python benchmarks/table_audit.py --out benchmarks/results/table_audit.jsonl --seeds 0 1 2
python benchmarks/table_audit.py --out benchmarks/results/table_audit.jsonl --seeds 0 1 2 3 4 5 6 7 8 9 --rows none
python benchmarks/table_audit.py --out benchmarks/results/table_audit.jsonl --seeds 0 1 2 --data ember-shaped --samples 60000

Each line: the verdict, the share of planted rows (TPR) and of others (FPR) flagged, the area under the curve of each auditor, the share
of the true trigger's columns that the rules name, and the ASR of both victims (MLP, boosting) in four states: trained on clean rows with
the same pattern (``clean``: what the pattern does without any poison), on the poisoned rows, and on what the audit kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import real
from tocsin.attacks.learned import LearnedAttack
from tocsin.bench.provenance import peak_rss_mb, provenance
from tocsin.data.dataset import Dataset
from tocsin.data.ember_shaped import EmberShaped
from tocsin.detectors.tabular import Tabular
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime
from tocsin.victim import BOOSTING, Trial, measured, trained

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


def split(data: str, samples: int, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """(audited, reserve, test)."""
    if data == "ember-shaped":
        table = EmberShaped(seed)
        return table.dataset(samples), table.dataset(RESERVE, BEHIND), table.dataset(TEST, BEHIND + RESERVE)
    table = real.malware(data)
    audited, reserve = SIZES[data]
    parts = np.split(np.random.default_rng([seed, 0x7AB]).permutation(len(table)), [audited, audited + reserve])
    return table[parts[0]], table[parts[1]], table[parts[2]]


def cell(data: str, samples: int, row: str, rate: float, seed: int, members: tuple[str, ...]) -> dict[str, Any]:
    """One audit of one poisoned table. The attack and the truth never reach the audit."""
    from sklearn.metrics import roc_auc_score

    runtime = Runtime(device="cpu", seed=seed)
    train, reserve, test = split(data, samples, seed)
    name, settings = ROWS[row]
    poisoned = poison(train, build(name, **settings, **({} if name == "none" else {"rate": rate})), seed, runtime)
    truth = np.zeros(len(train), bool)
    truth[poisoned.planted] = True
    method = Tabular(members=members)
    heard = [member.inspect(poisoned.dataset, reserve, runtime) for member in method.built()]
    found = method.merged(heard, poisoned.dataset, reserve)
    area = (lambda scores: float(roc_auc_score(truth, scores))) if truth.any() else lambda scores: None
    line: dict[str, Any] = {
        "data": data, "samples": len(train), "row": row, "rate": rate, "seed": seed, "members": list(members), "recipe": poisoned.recipe,
        "planted": int(truth.sum()), "found": found.found, "suspect_classes": [c.index for c in found.classes if c.suspect],
        "tpr": float(found.flagged[truth].mean()) if truth.any() else None, "fpr": float(found.flagged[~truth].mean()),
        "by_member": {
            one.detector: {
                "auc": area(one.scores), "p": [c.p_value for c in one.classes], "false": int(one.flagged[~truth].sum()),
                "true": int(one.flagged[truth].sum()), "seconds": one.timings["total"],
            }
            for one in heard
        },
        "auc": area(found.scores), "seconds": found.timings["total"], "peak_rss_mb": peak_rss_mb(),
    }  # fmt: skip
    if isinstance(poisoned.attack, LearnedAttack):
        names = {train.columns[k].name for k in poisoned.attack.learned["columns"]} if train.columns else set()
        said = {pair["column"] for rule in found.evidence["rules"].values() for pair in rule}
        line["trigger_columns_named"] = len(names & said) / len(names)
        line["victims"] = {victim: asrs(victim, train, poisoned, found.flagged, test, runtime) for victim in VICTIMS}
    return line


def asrs(victim: str, train: Dataset, poisoned: Any, flagged: np.ndarray, test: Dataset, runtime: Runtime) -> dict[str, Any]:
    """ASR and accuracy of a ``victim`` trained on clean, on poisoned and on purged rows."""
    trial = Trial.of(poisoned.attack, test)
    states = {"clean": train, "poisoned": poisoned.dataset, "purged": poisoned.dataset[~flagged]}
    out = {state: measured(trained(rows, victim, runtime=replace(runtime)), test, trial) for state, rows in states.items()}
    return {state: {"asr": result.asr, "acc": result.acc, "fpr": result.fpr} for state, result in out.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", nargs="+", default=list(SIZES), choices=[*SIZES, "ember-shaped"])
    parser.add_argument("--samples", type=int, default=60_000, help="of ember-shaped")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01])
    parser.add_argument("--members", nargs="+", default=list(Tabular().members))
    args = parser.parse_args()
    key = ("data", "row", "rate", "seed", "members")
    lines = map(json.loads, args.out.read_text().splitlines()) if args.out.exists() else ()
    done = {json.dumps([line[k] for k in key]) for line in lines}
    for seed in args.seeds:
        for data in args.data:
            for row in args.rows:
                for rate in args.rates:
                    if json.dumps([data, row, rate, seed, args.members]) in done:
                        continue
                    line = cell(data, args.samples, row, rate, seed, tuple(args.members))
                    with args.out.open("a") as out:
                        out.write(json.dumps({**line, **provenance("cpu", " ".join(sys.argv))}) + "\n")
                    print(data, row, rate, seed, "found" if line["found"] else "silent", "TPR", line["tpr"], "FPR", line["fpr"], flush=True)


if __name__ == "__main__":
    main()
