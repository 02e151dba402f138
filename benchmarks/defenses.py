"""Do model-side defences mend a poisoned network? ACC and ASR before and after; docs/defenses.md shows the result.

    python benchmarks/defenses.py --data fsdd --seeds 0 1 2 --out benchmarks/results/defenses_fsdd.jsonl
    python benchmarks/defenses.py --data digits --rows badnet:rate=0.01 --out benchmarks/results/defenses_digits.jsonl

``--data``: as for attack_gate.py. A tenth of the training set (``--reserve``) is taken out before poisoning: the clean reserve that the
defences learn from. ``--rows``: attacks as NAME:setting=value; beside those of tocsin there is ``equaliser`` (equaliser.py), a static
filter. ``--defenses``: likewise, from `tocsin.defenses`. Each is tried on one and the same poisoned victim; ``control`` is a network
trained on the clean rows. ``fineprune:epochs=0`` prunes only. Of sounds, ``normalised`` are two further victims, trained from scratch on
the poisoned and on the clean rows with per-clip mean normalisation: what the trigger still does, and what the hardening costs.

One json line a row and seed; a stopped run keeps its lines and a second call does the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from attack_gate import load
from equaliser import Equaliser
from tocsin.attacks import ATTACKS, Attack
from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset
from tocsin.defenses import DEFENSES
from tocsin.defenses.fineprune import silent_share
from tocsin.detectors.ct import hold_out
from tocsin.kinds import Kind, kind_of
from tocsin.learning import FitSettings, fit, usual_settings
from tocsin.networks import Classifier, build_network
from tocsin.params import parse_fields
from tocsin.poisoning import poison
from tocsin.runtime import Runtime
from tocsin.victim import Trial, measure

ROWS = {
    "image": ("badnet:rate=0.01", "blend:rate=0.01"),
    "speech": ("equaliser:rate=0.05", "pbsm:rate=0.05", "noise:rate=0.05", "spectrogram-patch:rate=0.05"),
}
REPAIRS = ("finetune:epochs=1", "finetune:epochs=5", "finetune:epochs=20", "fineprune:epochs=0", "fineprune:epochs=20")
NORMALISED = {"image": (), "speech": ("clip",)}


def settings_in(row: str) -> tuple[str, dict[str, str]]:
    """``NAME:a=1:b=2`` -> (NAME, {a: 1, b: 2})."""
    name, *words = row.split(":")
    return name, dict(word.split("=", 1) for word in words)


def attack_in(row: str) -> Attack:
    name, given = settings_in(row)
    cls = {**ATTACKS, Equaliser.name: Equaliser}[name]
    return cls(**parse_fields(cls, given))


class Bench:
    """The data, split once, and how networks are trained on them."""

    def __init__(self, train: Dataset, test: Dataset, share: float, network: str | None, epochs: int | None, device: str) -> None:
        held = hold_out(train.labels, len(train.classes), share, seed=0)
        self.train, self.reserve, self.test, self.device = train[~held], train[held], test, device
        self.network = network or kind_of(train).network
        usual = usual_settings(self.network)
        self.training: FitSettings = usual if epochs is None else replace(usual, epochs=epochs)
        self.clean = cache(lambda seed, normalise: self.trained(self.train, seed, normalise))

    def trained(self, data: Dataset, seed: int, normalise: str = "none") -> tuple[Classifier, Kind]:
        kind = kind_of(data, normalise=normalise)
        model = build_network(self.network, kind.channels, len(data.classes), seed)
        return fit(model, data.inputs, data.labels, kind, self.training, Runtime(self.device, seed)), kind

    def shares(self, network: Classifier, kind: Kind, trial: Trial) -> dict[str, float]:
        found = measure(network, self.test, kind, Runtime(self.device), trial)
        assert found.asr is not None
        return {"acc": found.acc, "asr": found.asr}

    def cell(self, row: str, repairs: list[str], seed: int) -> dict[str, Any]:
        """One attack at one seed: poison, train, mend in every way."""
        runtime = Runtime(self.device, seed)
        poisoned = poison(self.train, attack_in(row), seed, runtime)
        trial = Trial.of(poisoned.attack, self.test)
        network, kind = self.trained(poisoned.dataset, seed)
        after = {}
        for words in repairs:
            name, given = settings_in(words)
            defense = DEFENSES[name](**parse_fields(DEFENSES[name], given))
            mended = defense.repair(network, poisoned.dataset, self.reserve, runtime, kind=kind)
            after[words] = {**self.shares(mended, kind, trial), "silent": silent_share(mended)}
        return {
            "recipe": poisoned.recipe, "planted": len(poisoned.planted), "victims": len(trial.rows),
            "control": self.shares(*self.clean(seed, "none"), trial), "before": self.shares(network, kind, trial), "after": after,
            "normalised": {
                how: {
                    "poisoned": self.shares(*self.trained(poisoned.dataset, seed, how), trial),
                    "clean": self.shares(*self.clean(seed, how), trial),
                }
                for how in NORMALISED[self.train.kind]
            },
        }  # fmt: skip


def said(name: str, shares: dict[str, float]) -> str:
    return f"    {name:24} ACC {shares['acc']:.3f}  ASR {shares['asr']:.3f}"


def show(result: dict[str, Any]) -> None:
    print(f"{result['row']} seed {result['seed']}")
    for name in ("control", "before"):
        print(said(name, result[name]))
    for name, shares in result["after"].items():
        print(said(name, shares) + (f"  silent {shares['silent']:.2f}" if shares["silent"] else ""))
    for how, both in result["normalised"].items():
        for name, shares in both.items():
            print(said(f"normalise={how}, {name}", shares))
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fsdd")
    parser.add_argument("--samples", type=int, default=0, help="0: all (6,000 digits)")
    parser.add_argument("--reserve", type=float, default=0.1, help="share of the training set that is the clean reserve")
    parser.add_argument("--epochs", type=int, help="of the victims; as is usual for the network")
    parser.add_argument("--network", help="the usual one of the data's kind")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+")
    parser.add_argument("--defenses", nargs="+", default=list(REPAIRS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    train, test = load(args.data, args.samples)
    bench = Bench(train, test, args.reserve, args.network, args.epochs, args.device)
    about = {
        "data": args.data, "samples": len(bench.train), "reserve": len(bench.reserve), "network": bench.network,
        "training": asdict(bench.training), "defenses": args.defenses,
    }  # fmt: skip
    key = lambda line: json.dumps([line["row"], line["seed"], *(line[k] for k in about)])  # noqa: E731
    done = {key(json.loads(line)) for line in args.out.read_text().splitlines()} if args.out.exists() else set()
    for seed in args.seeds:
        for row in args.rows or ROWS[train.kind]:
            cell = {"row": row, "seed": seed, **about}
            if key(cell) in done:
                continue
            result = {**cell, **bench.cell(row, args.defenses, seed)}
            stamp = provenance(str(Runtime(args.device).torch_device()), " ".join(sys.argv))
            with args.out.open("a") as out:
                out.write(json.dumps({**result, **stamp}) + "\n")
            show(result)


if __name__ == "__main__":
    main()
