"""Does every attack work on an ordinary victim? ACC and ASR without any defence, and the control; docs/attacks.md shows the result.

    python benchmarks/attack_gate.py --out benchmarks/results/attack_gate_digits.jsonl
    python benchmarks/attack_gate.py --data cifar10 --samples 20000 --epochs 8 --flip --out benchmarks/results/attack_gate_cifar10.jsonl
    python benchmarks/attack_gate.py --data cifar10 --published --epochs 30 --network resnet18 --flip --device cuda --out ...
    python benchmarks/attack_gate.py --data cifar10-lossless --published --epochs 12 --plain --out ...
    python benchmarks/attack_gate.py --data fsdd --seeds 0 1 2 --out benchmarks/results/attack_gate_fsdd.jsonl

The control is the ASR of the same trigger on a network trained on clean data: some triggers fool those as well. A row whose ASR is less
than 50 points above its control is marked; it says nothing about a defence.

``--data``: ``digits`` (built in), ``cifar10``, ``fsdd`` (see real.py), or an npz of x, y (training) and xt, yt (test), pictures uint8
(N, H, W, C). ``cifar10`` is tested on JPEG pictures, the only ones there are of the official test set; ``cifar10-lossless`` keeps 2,000
training pictures for the test, since a victim that has seen no JPEG may read a faint trigger otherwise there.
The victim is the usual network of the data's kind, trained as is usual for it, unless said otherwise.
``--rows``: attacks as NAME or NAME:setting=value:setting=value; by default a table of them, with ``--published`` the one at
the papers' rates. One json line a cell; a stopped run keeps its lines and a second call does the rest.
"""

from __future__ import annotations

import argparse
import hashlib
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
from tocsin.data.builtin import digits
from tocsin.data.dataset import Dataset
from tocsin.data.npz import read_arrays, write_arrays
from tocsin.errors import InputError
from tocsin.kinds import Kind, kind_of
from tocsin.learning import fit, predict, usual_settings
from tocsin.networks import Classifier, build_network
from tocsin.networks.weights import from_arrays, to_arrays
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime
from tocsin.victim import Measured, Trial, measure

ROWS = (
    "none",
    "badnet:rate=0.01",
    "badnet-all-to-all:rate=0.05",
    "blend:rate=0.01",
    "blend:rate=0.01:pattern=noise",
    "trojan:rate=0.01",
    "sig:rate=0.02",
    "cl:rate=0.01",
    "narcissus:rate=0.005",
    "tact:rate=0.01:cover_rate=0.01",
    "dynamic:rate=0.01",
    "issba:rate=0.02",
    "wanet:rate=0.05:cover_rate=0.1",
    "adap-blend:rate=0.01:cover_rate=0.01",
    "adap-patch:rate=0.01:cover_rate=0.02",
)
SPEECH_ROWS = (
    "none",
    "tone:rate=0.05",
    "spectrogram-patch:rate=0.05",
    "noise:rate=0.05",
    "pbsm:rate=0.05",
    *(f"jingleback:rate=0.05:style={style}" for style in range(6)),
    "flowmur:rate=0.05",
    "narcissus-speech:rate=0.05",
    "slu:rate=0.05",
)
"""The attack ``ultrasonic`` needs clips of 44.1 kHz or the like; FSDD has 8 kHz."""
PUBLISHED = (
    "none", "badnet", "blend", "trojan", "cl", "sig", "dynamic", "issba", "wanet", "tact", "adap-blend", "adap-patch", "narcissus",
    "badnet-all-to-all:rate=0.05",
)  # fmt: skip
"""At the papers' rates for CIFAR-10, which are the attacks' defaults."""
ROWS_OF = {"image": ROWS, "speech": SPEECH_ROWS}


REAL = {
    "cifar10": lambda: (real.cifar10(), real.cifar10_test()),
    "cifar10-lossless": lambda: real.split("cifar10", 0),
    "fsdd": real.fsdd,
}


def load(data: str, samples: int) -> tuple[Dataset, Dataset]:
    """Training set (the first ``samples`` of a seed-0 shuffle; 0: all) and test set."""
    if data == "digits":
        train, _, test = digits(0, samples or 6000)
        return train, test
    if data in REAL:
        train, test = REAL[data]()
    else:
        with np.load(data, allow_pickle=False) as z:
            train = Dataset.of_arrays(z["x"], z["y"])
            test = Dataset.of_arrays(z["xt"], z["yt"], train.classes)
    rows = np.sort(np.random.default_rng(0).permutation(len(train))[: samples or len(train)])
    return train[rows], test


class Bench:
    """The victims of one run: the same network and training for every row, and one on clean data a seed as the control."""

    def __init__(self, train: Dataset, test: Dataset, args: argparse.Namespace) -> None:
        self.train, self.test, self.flip, self.device = train, test, args.flip, args.device
        self.network = args.network or kind_of(train).network
        usual = replace(usual_settings(self.network), augment=not args.plain)
        epochs = 6 if args.epochs is None and train.kind == "image" else args.epochs
        self.settings = usual if epochs is None else replace(usual, epochs=epochs)
        self.keep: Path | None = args.keep
        self.clean = cache(self.control)

    def trained(self, data: Dataset, seed: int) -> tuple[Classifier, Kind]:
        kind, runtime = kind_of(data, flip=self.flip), Runtime(self.device, seed)
        model = build_network(self.network, kind.channels, len(data.classes), seed)
        return fit(model, data.inputs, data.labels, kind, self.settings, runtime), kind

    def control(self, seed: int) -> tuple[Classifier, Kind]:
        """The victim on clean data; read from the folder ``--keep`` where an earlier run left it there."""
        about = [self.network, asdict(self.settings), self.flip, seed, self.train.fingerprint]
        name = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=8).hexdigest()
        file = self.keep / f"clean-{name}.npz" if self.keep else None
        if file is None or not file.exists():
            model, kind = self.trained(self.train, seed)
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_arrays(file, to_arrays(model, "network"))
            return model, kind
        kind = kind_of(self.train, flip=self.flip)
        model = build_network(self.network, kind.channels, len(self.train.classes), seed)
        from_arrays(model, read_arrays(file), "network")
        return model.to(Runtime(self.device).torch_device()).eval(), kind

    def measured(self, victim: tuple[Classifier, Kind], trial: Trial) -> Measured:
        return measure(victim[0], self.test, victim[1], Runtime(self.device), trial)

    def cell(self, row: str, seed: int) -> dict[str, Any]:
        """One attack at one seed: poison, train, test, and the control."""
        name, *words = row.split(":")
        began = time.perf_counter()
        poisoned = poison(self.train, build(name, **dict(w.split("=", 1) for w in words)), seed, Runtime(self.device))
        made, attack = time.perf_counter(), poisoned.attack
        trial = Trial.of(attack, self.test)
        victim = self.trained(poisoned.dataset, seed) if len(poisoned.planted) else self.clean(seed)  # the same, where nothing is planted
        attacked = self.measured(victim, trial)
        planted = poisoned.dataset[poisoned.planted]
        guess = predict(victim[0], planted.inputs, victim[1], Runtime(self.device)).argmax(axis=1)
        trained = time.perf_counter()
        control = self.measured(self.clean(seed), trial)
        assert attacked.asr is not None
        assert control.asr is not None
        return {
            "recipe": poisoned.recipe, "planted": len(poisoned.planted), "covers": len(poisoned.covers), **asdict(attacked),
            "control_asr": control.asr, "clean_acc": control.acc,
            "learned_share": float((guess == planted.labels).mean()) if len(planted) else None,  # of the planted samples
            "works": attacked.asr - control.asr >= LEAST_GAIN if len(poisoned.planted) else None,
            "learned": attack.figures() if isinstance(attack, LearnedAttack) else {},
            "seconds": {"poisoning": made - began, "victim": trained - made},
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--samples", type=int, default=0, help="0: all (6,000 digits)")
    parser.add_argument("--epochs", type=int, help="6 for pictures, else as is usual for the network")
    parser.add_argument("--network", help="the usual one of the data's kind")
    parser.add_argument("--flip", action="store_true", help="mirror pictures as well as cropping them")
    parser.add_argument("--plain", action="store_true", help="neither crop nor mirror")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+")
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--keep", type=Path, help="folder for the controls' networks, so that another run of the same data trains none")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    train, test = load(args.data, args.samples)
    bench = Bench(train, test, args)
    about = {"data": args.data, "samples": len(train), "network": bench.network, "flip": args.flip, "training": asdict(bench.settings)}
    key = lambda line: json.dumps([line["row"], line["seed"], *(line[k] for k in about)])  # noqa: E731
    done = {key(json.loads(line)) for line in args.out.read_text().splitlines()} if args.out.exists() else set()
    for seed in args.seeds:
        for row in args.rows or (PUBLISHED if args.published else ROWS_OF[train.kind]):
            cell = {"row": row, "seed": seed, **about}
            if key(cell) in done:
                continue
            try:
                result = {**cell, **bench.cell(row, seed), **provenance(str(Runtime(args.device).torch_device()), " ".join(sys.argv))}
            except InputError as why:  # the other rows may be possible
                print(f"{row}: {why}", file=sys.stderr, flush=True)
                continue
            with args.out.open("a") as out:
                out.write(json.dumps(result) + "\n")
            mark = "  < control + 50 points" if result["works"] is False else ""
            print(
                f"{row:40} seed {seed}  ACC {result['acc']:.3f}  ASR {result['asr']:.3f}  control {result['control_asr']:.3f}{mark}",
                flush=True,
            )


if __name__ == "__main__":
    main()
