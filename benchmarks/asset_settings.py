"""ASSET outside supervised learning: setting x attack x seed on CIFAR-10, one json line a cell with provenance; none is done twice.

    python benchmarks/asset_settings.py --setting self-supervised --attack none ctrl:rate=0.01 --seeds 0 1 2 --out FILE.jsonl
    python benchmarks/asset_settings.py --setting transfer --samples 2500 --reserve 1000 --detectors asset,ss,ac,strip,scan,ct \
        --attack none badnet:rate=0.05 hidden-trigger:rate=0.08:source=1:encoder=ENCODER --set transfer.tune=last ...
    python benchmarks/asset_settings.py --setting self-supervised --attack sig:rate=0.05 --samples 3000 --set self-supervised.epochs=10 ...
    python benchmarks/asset_settings.py --setting supervised --sheets 3 --samples 25000 --attack wanet:rate=0.05 --device cuda \
        --network resnet18 --epochs 24 --states clean poisoned --set features=victim network=resnet18 victim_network=resnet18 ...

Attacks are written NAME or NAME:setting=value:setting=value. Each line: the verdict, the share of planted samples (TPR) and of others
(FPR) flagged, the area under the curve of the scores, the share of planted ones among the 20 that each run's scouts rank highest; and
accuracy (ACC) and attack success rate (ASR) of the model that the setting makes of the poisoned samples, of the same ones without poison
(``clean``: what the trigger does by itself) and of what the audit kept (``purged``). In the self-supervised setting that model is an
encoder trained on these samples alone, with a linear probe fitted to ``--labelled`` clean samples. In the transfer setting all samples
are of five classes of the ten, and the encoder, unless ``transfer.encoder`` is set, is an ordinary network trained on the other five, once
a seed, beside ``--out``; ENCODER in an attack stands for its file. Of several ``--detectors`` the first decides. ``works`` is false where
the attack gains less than 50 points over ``clean``: such a line says nothing for or against a detector.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import real
from tocsin.auditing import audit
from tocsin.bench.provenance import peak_rss_mb, provenance
from tocsin.bench.shared import LEAST_GAIN
from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Findings
from tocsin.learning import FitSettings, predict
from tocsin.paradigms import PARADIGMS, Paradigm, SelfSupervised, Supervised, Transfer, paradigm_of
from tocsin.poisoning import build, poison
from tocsin.report.model import Report
from tocsin.runtime import Runtime
from tocsin.victim import Logits, Trial, measured, probed, train_victim, trained

KNOWN, OTHERS = (0, 2, 4, 6, 8), (1, 3, 5, 7, 9)
"""Classes of CIFAR-10 that the encoder of the transfer setting is trained on, and those of the data that it is tuned to."""


@lru_cache(maxsize=1)
def pictures(sheets: int) -> tuple[Dataset, Dataset]:
    return real.cifar10(sheets), real.cifar10_test()


def of_classes(data: Dataset, classes: tuple[int, ...]) -> Dataset:
    """The samples of these classes alone, which are numbered anew."""
    rows = np.flatnonzero(np.isin(data.labels, classes))
    return Dataset.of_arrays(data.inputs[rows], np.searchsorted(classes, data.labels[rows]), tuple(data.classes[k] for k in classes))


def encoder_file(folder: Path, seed: int, device: str, sheets: int) -> Path:
    """An encoder that knows the classes `KNOWN`, trained where there is none yet."""
    file = folder / f"encoder-{seed}.npz"
    if not file.exists():
        train, test = (of_classes(data, KNOWN) for data in pictures(sheets))
        how = FitSettings(epochs=10)
        acc = train_victim(train, test, network="small", settings=how, flip=True, runtime=Runtime(device, seed), save=file).acc
        print("encoder of seed", seed, "ACC on its own classes", acc, flush=True)
    return file


def split(
    samples: int, reserve: int, labelled: int, seed: int, classes: tuple[int, ...] | None, sheets: int = 5
) -> tuple[Dataset, Dataset, Dataset, Dataset]:
    """(inspected, reserve, clean labelled samples for what is put on an encoder, test), all disjoint; of some ``classes``, or of all."""
    data, test = pictures(sheets) if classes is None else (of_classes(part, classes) for part in pictures(sheets))
    order = np.random.default_rng([seed, 0x55E7]).permutation(len(data))
    parts = np.split(order, np.cumsum([samples, reserve, labelled]))
    return data[np.sort(parts[0])], data[np.sort(parts[1])], data[np.sort(parts[2])], test


def _self_supervised(paradigm: Paradigm, data: Dataset, labelled: Dataset, runtime: Runtime, args: argparse.Namespace) -> Logits:
    assert isinstance(paradigm, SelfSupervised)
    return probed(*paradigm.encoder(data, runtime), labelled, runtime)


def _transfer(paradigm: Paradigm, data: Dataset, labelled: Dataset, runtime: Runtime, args: argparse.Namespace) -> Logits:
    assert isinstance(paradigm, Transfer)
    encoder, network = paradigm.tuned(data, runtime)
    return lambda inputs, stage: predict(network, inputs, encoder.kind, runtime, stage=stage)


def _supervised(paradigm: Paradigm, data: Dataset, labelled: Dataset, runtime: Runtime, args: argparse.Namespace) -> Logits:
    return trained(data, args.network, settings=FitSettings(args.epochs), runtime=runtime)


DEPLOYED: Mapping[str, Callable[[Paradigm, Dataset, Dataset, Runtime, argparse.Namespace], Logits]] = {
    Supervised.name: _supervised,
    SelfSupervised.name: _self_supervised,
    Transfer.name: _transfer,
}
"""Setting -> the model that someone would make of the data there and use."""


class Cells:
    """All attacks on one draw of the data: what the setting makes of the samples without poison is made once."""

    def __init__(self, args: argparse.Namespace, seed: int) -> None:
        self.args, self.seed = args, seed
        self.runtime = Runtime(device=args.device, seed=seed)
        self.params = dict(word.split("=", 1) for word in args.set)
        classes = None
        if args.setting == Transfer.name:
            classes = OTHERS
            if "transfer.encoder" not in self.params:
                self.params["transfer.encoder"] = str(encoder_file(args.out.parent, seed, args.device, args.sheets))
        self.paradigm, _ = paradigm_of(args.setting, self.params)
        self.train, self.reserve, self.labelled, self.test = split(args.samples, args.reserve, args.labelled, seed, classes, args.sheets)
        self.clean: Logits | None = None

    def deployed(self, data: Dataset) -> Logits:
        return DEPLOYED[self.paradigm.name](self.paradigm, data, self.labelled, self.runtime, self.args)

    def cell(self, row: str) -> dict[str, Any]:
        name, *words = row.replace("ENCODER", self.params.get("transfer.encoder", "")).split(":")
        poisoned = poison(self.train, build(name, **dict(word.split("=", 1) for word in words)), self.seed, self.runtime)
        truth = np.zeros(len(self.train), bool)
        truth[poisoned.planted] = True
        began = time.monotonic()
        how: dict[str, Any] = {"setting": self.args.setting, "detector": self.args.detectors, "params": self.params}
        report = audit(poisoned.dataset, self.reserve, **how, canaries=False, runtime=self.runtime)
        seconds = time.monotonic() - began
        line = {
            "recipe": poisoned.recipe, "planted": int(truth.sum()), **said(report.findings, truth), "audit_seconds": seconds,
            "panel": {found.detector: said(found, truth) for found in report.panel},
            "detector_seconds": report.findings.timings["total"],
        }  # fmt: skip
        if not self.args.no_victims:
            line |= self.victims(poisoned, report, truth)
        return {**line, "peak_rss_mb": peak_rss_mb()}

    def victims(self, poisoned: Any, report: Report, truth: np.ndarray) -> dict[str, Any]:
        """ACC and ASR of the models that are asked for, of three."""
        began = time.monotonic()
        trial = Trial.of(poisoned.attack, self.test) if truth.any() else None
        self.clean = self.clean or self.deployed(self.train)
        models = {"clean": self.clean}
        if truth.any():
            models["poisoned"] = self.deployed(poisoned.dataset)
        if report.flagged.any() and "purged" in self.args.states:
            models["purged"] = self.deployed(poisoned.dataset[~report.flagged])
        found = {state: measured(logits, self.test, trial) for state, logits in models.items()}
        line: dict[str, Any] = {"victims": {state: {"acc": one.acc, "asr": one.asr} for state, one in found.items()}}
        if truth.any():
            line["gain"] = (found["poisoned"].asr or 0.0) - (found["clean"].asr or 0.0)
            line["works"] = line["gain"] >= LEAST_GAIN
        return {**line, "victim_seconds": time.monotonic() - began}


def said(found: Findings, truth: np.ndarray) -> dict[str, Any]:
    """What a detector found, beside the truth."""
    from sklearn.metrics import roc_auc_score

    highest = [run["scout's highest"] for run in found.evidence.get("runs", []) if "scout's highest" in run]
    return {
        "found": found.found, "confidence": found.confidence, "p": [c.p_value for c in found.classes], "flagged": int(found.flagged.sum()),
        "tpr": float(found.flagged[truth].mean()) if truth.any() else None, "fpr": float(found.flagged[~truth].mean()),
        "auc": float(roc_auc_score(truth, found.scores)) if truth.any() else None,
        "auc_of_control": float(roc_auc_score(*against(found.scores[~truth], found.control))) if len(found.control) else None,
        "scouts_precision": [float(truth[rows].mean()) for rows in highest], "runs": found.evidence.get("runs"),
    }  # fmt: skip


def against(clean: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Marks and scores of clean inspected samples (1) and of the control (0): 0.5 is what the decision rests on."""
    return np.repeat([1, 0], [len(clean), len(control)]), np.concatenate([clean, control])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--setting", choices=[name for name in PARADIGMS if name in DEPLOYED], default=SelfSupervised.name)
    parser.add_argument("--attack", nargs="+", default=["none", "ctrl:rate=0.01", "ssl-backdoor:rate=0.05"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--reserve", type=int, default=2_000)
    parser.add_argument("--labelled", type=int, default=5_000)
    parser.add_argument("--detectors", help="as on the command line; by default the one that decides in the setting")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the audit, as on the command line")
    parser.add_argument("--sheets", type=int, default=5, help="of CIFAR-10, 10,000 pictures each")
    parser.add_argument("--network", default="small", help="supervised: the model that someone would make of the data")
    parser.add_argument("--epochs", type=int, default=8, help="supervised: its passes")
    parser.add_argument("--states", nargs="+", default=["clean", "poisoned", "purged"], help="leave out purged to save its training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-victims", action="store_true", help="the audit alone, without ACC and ASR")
    args = parser.parse_args()
    fixed = {
        "setting": args.setting, "samples": args.samples, "reserve": args.reserve, "labelled": args.labelled, "set": sorted(args.set),
        "detectors": args.detectors, **({"sheets": args.sheets} if args.sheets != 5 else {}),
        **({"network": args.network, "epochs": args.epochs} if args.setting == Supervised.name else {}),
    }  # fmt: skip
    lines = map(json.loads, args.out.read_text().splitlines()) if args.out.exists() else ()
    key = ("attack", "seed", *fixed)
    done = {json.dumps([line.get(k) for k in key]) for line in lines}
    for seed in args.seeds:
        cells = Cells(args, seed)
        for attack in args.attack:
            start = {"attack": attack, "seed": seed, **fixed}
            if json.dumps([start[k] for k in key]) in done:
                continue
            line = {**start, **cells.cell(attack), **provenance(args.device, " ".join(sys.argv))}
            with args.out.open("a") as out:
                out.write(json.dumps(line) + "\n")
            print(attack, seed, "found" if line["found"] else "silent", "TPR", line["tpr"], "FPR", line["fpr"], "AUC", line["auc"],
                  line.get("victims"), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
