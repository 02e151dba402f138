"""Does every attack on tables work? ACC, FPR and ASR of two victims with the poison and without it; docs/attacks.md shows the result.

    python benchmarks/table_gate.py --data pe_headers clamp --seeds 0 1 2 --out benchmarks/results/table_gate.jsonl
    python benchmarks/table_gate.py --data ember-shaped --samples 60000 --epochs 6 --out benchmarks/results/table_gate.jsonl

On tables a pattern may simply look benign, so the gate is the ASR that the poison *adds*: ``gain`` is the ASR of a victim trained on the
poisoned rows less that of the same pattern on one trained on the clean rows (``control_asr``). A row whose gain is less than 50 points is
marked; it says nothing about a defence.

``--data``: ``pe_headers`` and ``clamp`` (see real.py; equal rows dropped, a fifth is the test set, drawn by the seed), ``ember-shaped``
(drawn by the seed: ``--samples`` rows, version 1, and 5,000 test rows). Victims: the MLP of the kind, and boosting.
One json line for each row, seed and victim; a stopped run keeps its lines and a second call does the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import real
from tocsin.attacks.learned import LearnedAttack
from tocsin.bench.provenance import provenance
from tocsin.bench.shared import LEAST_GAIN
from tocsin.boosting import has_lightgbm
from tocsin.data.dataset import Dataset
from tocsin.data.ember_shaped import EmberShaped
from tocsin.errors import InputError
from tocsin.learning import FitSettings, usual_settings
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime
from tocsin.victim import BOOSTING, Logits, Trial, measured, trained

ROWS = (
    "explanation",
    "explanation:constraints=none",
    "explanation:constraints=none:selector=combined",
    "feature-patch",
    "feature-patch:clean_label=true",
    "label-flip",
)
VICTIMS = ("mlp", BOOSTING)
TEST_ROWS, TEST_START = 5000, 10_000_000
"""Of the EMBER-shaped table: behind the rows of any training set."""


def load(data: str, samples: int, seed: int) -> tuple[Dataset, Dataset]:
    """Training set and test set."""
    if data == "ember-shaped":
        table = EmberShaped(seed)
        return table.dataset(samples), table.dataset(TEST_ROWS, TEST_START)
    table = real.malware(data)
    order = np.random.default_rng([seed, 0x7AB1E]).permutation(len(table))
    cut = len(table) // 5
    return table[order[cut:]], table[order[:cut]]


class Bench:
    """One data set at one seed: the same victims for every row, those of clean data trained once."""

    def __init__(self, data: str, samples: int, seed: int, epochs: int | None) -> None:
        self.train, self.test = load(data, samples, seed)
        self.seed, self.epochs = seed, epochs
        self.clean = cache(lambda victim: self.fitted(self.train, victim))
        self.poisoned = cache(self._poisoned)

    def settings(self, victim: str) -> FitSettings | None:
        """None: boosting has no such settings."""
        usual = usual_settings(victim)
        return None if victim == BOOSTING else usual if self.epochs is None else replace(usual, epochs=self.epochs)

    def fitted(self, data: Dataset, victim: str) -> Logits:
        return trained(data, victim, settings=self.settings(victim), runtime=Runtime("cpu", self.seed))

    def _poisoned(self, row: str) -> Any:
        name, *words = row.split(":")
        return poison(self.train, build(name, **dict(w.split("=", 1) for w in words)), self.seed, Runtime("cpu", self.seed))

    def cell(self, row: str, victim: str) -> dict[str, Any]:
        """One attack on one victim: poison, train, test, and the control."""
        began = time.perf_counter()
        poisoned = self.poisoned(row)
        made, attack = time.perf_counter(), poisoned.attack
        trial = Trial.of(attack, self.test)
        attacked = measured(self.fitted(poisoned.dataset, victim), self.test, trial)
        done = time.perf_counter()
        control = measured(self.clean(victim), self.test, trial)
        assert attacked.asr is not None
        assert control.asr is not None
        gain = attacked.asr - control.asr
        pattern = {}
        if isinstance(attack, LearnedAttack):
            learned = attack.learned
            pattern = {self.train.columns[k].name: float(v) for k, v in zip(learned["columns"], learned["values"], strict=True)}
        return {
            "recipe": poisoned.recipe, "planted": len(poisoned.planted), "pattern": pattern, **asdict(attacked),
            "control_asr": control.asr, "clean_acc": control.acc, "clean_fpr": control.fpr, "gain": gain, "works": gain >= LEAST_GAIN,
            "seconds": {"poisoning": made - began, "victim": done - made},
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["pe_headers", "clamp"], choices=["pe_headers", "clamp", "ember-shaped"])
    parser.add_argument("--samples", type=int, default=60_000, help="of ember-shaped")
    parser.add_argument("--epochs", type=int, help="of the MLP; as is usual for it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS))
    parser.add_argument("--victims", nargs="+", default=list(VICTIMS))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    cell_of = ("data", "samples", "seed", "row", "victim", "training")
    key = lambda line: json.dumps([line[k] for k in cell_of])  # noqa: E731
    done = {key(json.loads(line)) for line in args.out.read_text().splitlines()} if args.out.exists() else set()
    for data in args.data:
        for seed in args.seeds:
            bench = Bench(data, args.samples, seed, args.epochs)
            for row in args.rows:
                for victim in args.victims:
                    how = bench.settings(victim)
                    training = asdict(how) if how else {"engine": "lightgbm" if has_lightgbm() else "scikit-learn"}
                    cell = dict(zip(cell_of, (data, len(bench.train), seed, row, victim, training), strict=True))
                    if key(cell) in done:
                        continue
                    try:
                        result = {**cell, **bench.cell(row, victim), **provenance("cpu", " ".join(sys.argv))}
                    except InputError as why:  # the other rows may be possible
                        print(f"{data} {row}: {why}", file=sys.stderr, flush=True)
                        continue
                    with args.out.open("a") as out:
                        out.write(json.dumps(result) + "\n")
                    shares = "  ".join(f"{k} {result[k]:.3f}" for k in ("acc", "clean_acc", "fpr", "clean_fpr", "asr", "control_asr"))
                    print(f"{data} {seed} {row:48} {victim:8}  {shares}{'' if result['works'] else '  < 50 points'}", flush=True)


if __name__ == "__main__":
    main()
