"""After removal: a victim trained on the poisoned set, on what the audit kept of it, and on the clean set; ACC and ASR of each.

python benchmarks/after_removal.py --flags audit_table.flags --out benchmarks/results/after_removal.jsonl --seeds 0

Needs the flags that audit_table.py left (fast preset, with canaries). One json line a row and seed; finished ones are not repeated.
The test pictures are CIFAR-10's, JPEG quality 75, which costs every victim some accuracy alike.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

import real
from audit_table import ROWS
from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset
from tocsin.kinds.image import ImageKind
from tocsin.learning import FitSettings, fit
from tocsin.networks import Classifier, build_network
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime
from tocsin.victim import Trial, measure

NETWORK = "small"


def victim(train: Dataset, epochs: int, plain: bool, seed: int) -> tuple[Classifier, ImageKind]:
    kind = ImageKind.of(train, flip=not plain)
    network = build_network(NETWORK, train.inputs.shape[-1], len(train.classes), seed)
    return fit(network, train.inputs, train.labels, kind, FitSettings(epochs=epochs, augment=not plain), Runtime(seed=seed)), kind


def shares(model: tuple[Classifier, ImageKind], test: Dataset, trial: Trial) -> dict[str, float | int | None]:
    return asdict(measure(model[0], test, model[1], Runtime(), trial))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flags", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", default=["BadNet 0.3 %", "Blend 0.3 %", "Trojan 1 %", "TaCT 0.3 % + 0.3 %", "SIG 2 %"])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--plain", action="store_true", help="pictures are neither cropped nor mirrored: without that Adap-Patch works")
    parser.add_argument("--detector", default="ct", help="whose flags")
    args = parser.parse_args()
    done = {(d["row"], d["seed"]) for d in map(json.loads, args.out.read_text().splitlines())} if args.out.exists() else set()
    test = real.cifar10_test()
    for seed in args.seeds:
        clean = None
        train, _ = real.split("cifar10", seed)
        for row in args.rows:
            if (row, seed) in done:
                continue
            data, name, settings = ROWS[row]
            assert data == "cifar10"
            who = "" if args.detector == "ct" else f"{args.detector}_"
            flags = args.flags / f"{row}_{seed}_{who}fast_01.npy".replace(" ", "")
            if not flags.exists():
                print(row, seed, "no flags yet", flush=True)
                continue
            poisoned = poison(train, build(name, **settings), seed)
            trial = Trial.of(poisoned.attack, test)
            clean = clean or victim(train, args.epochs, args.plain, seed)
            kept = poisoned.dataset[~np.load(flags)]
            result = {
                "row": row, "seed": seed, "network": NETWORK, "epochs": args.epochs, "plain": args.plain, "recipe": poisoned.recipe,
                "planted": len(poisoned.planted), "planted_left": int((~np.load(flags))[poisoned.planted].sum()),
                "clean": shares(clean, test, trial),
                "poisoned": shares(victim(poisoned.dataset, args.epochs, args.plain, seed), test, trial),
                "kept": shares(victim(kept, args.epochs, args.plain, seed), test, trial),
            }  # fmt: skip
            with args.out.open("a") as out:
                out.write(json.dumps({**result, **provenance("cpu", " ".join(sys.argv))}) + "\n")
            print(row, seed, result["clean"], result["poisoned"], result["kept"], flush=True)


if __name__ == "__main__":
    main()
