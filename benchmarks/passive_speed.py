"""How fast the detectors that read features are, and how much memory they take; beside ART's where it is installed. Seeded features.

    python benchmarks/passive_speed.py --out benchmarks/results/passive_speed.json
    python benchmarks/passive_speed.py --memory --out benchmarks/results/passive_memory.json

The first times ours on 50,000 x 512 features of ten classes, of which 1 % are planted in class 3, and, in turns with them, the
adversarial-robustness-toolbox's SpectralSignatureDefense and ActivationDefence on the same array: no network runs in either. Beside the
seconds stand TPR and FPR at each one's own cut and the AUC among the samples of class 3, of the flags where a method gives no scores.
ART's SS must be told how much poison there is; "ours, oracle" is told the same. The second writes 1,000,000 x 512 features (2 GB) to a
temporary folder and reads the peak memory of a fresh process for each detector.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset
from tocsin.detectors import DETECTORS
from tocsin.detectors.feature import FeatureDetector
from tocsin.detectors.victim import Victim
from tocsin.runtime import Runtime

OURS = [name for name, cls in DETECTORS.items() if issubclass(cls, FeatureDetector)]
TARGET, RATE, BLOCK = 3, 0.01, 20000
AWAY = 24.0
"""So far that the planted group makes a direction of large variance, as SS and AC suppose. At 12 it does not, and neither finds it."""

Flags = tuple[np.ndarray, np.ndarray]
"""(N,) bool, and (N,) scores."""


def write_features(file: Path, samples: int, width: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(labels (N,), poison (N,) bool); the features go to ``file`` block by block.

    Rectified Gaussians, as a network's features are, whose variance falls off over the directions. Poison is moved by `AWAY` standard
    deviations in a random direction.
    """
    world, rng = np.random.default_rng(4711), np.random.default_rng(seed)
    means, scale = world.standard_normal((classes, width)), 1.0 / np.sqrt(1.0 + np.arange(width) / 8)
    direction = world.standard_normal(width)
    direction *= AWAY / np.linalg.norm(direction)
    labels = rng.integers(0, classes, samples)
    poison = np.zeros(samples, bool)
    poison[rng.choice(samples, round(RATE * samples), replace=False)] = True
    labels[poison] = TARGET % classes
    out = np.lib.format.open_memmap(file, "w+", np.float32, (samples, width))
    for start in range(0, samples, BLOCK):
        part = slice(start, start + BLOCK)
        x = means[labels[part]] + scale * (rng.standard_normal((len(labels[part]), width)) + np.outer(poison[part], direction))
        out[part] = np.maximum(x, 0)
    out.flush()
    return labels, poison


def victim_of(features: np.ndarray, labels: np.ndarray, reserve: np.ndarray, reserve_labels: np.ndarray, classes: int) -> Victim:
    """A Victim that has its readings already; it predicts every label."""
    names = tuple(str(k) for k in range(classes))
    sides = [Dataset.of_arrays(np.zeros((len(y), 1, 1, 1), np.uint8), y, names) for y in (labels, reserve_labels)]
    victim = Victim(*sides, None, None, Runtime(device="cpu"))  # type: ignore[arg-type]
    one_hot = np.eye(classes, dtype=np.float32)
    vars(victim).update(features=features, reserve_features=reserve, logits=one_hot[labels], reserve_logits=one_hot[reserve_labels])
    return victim


class StoredActivations:
    """What ART's detectors ask of a classifier, answered from the array."""

    layer_names = ("features",)
    layers = layer_names

    def __init__(self, features: np.ndarray, classes: int) -> None:
        self.features, self.nb_classes, self.clip_values = features, classes, None

    def get_activations(self, x: np.ndarray, layer: int | str, batch_size: int = 128, framework: bool = False) -> np.ndarray:
        return self.features


def ours_methods(name: str, victim: Victim) -> dict[str, Callable[[], Flags]]:
    """Ours as it is, and told the rate where it can be."""
    cls: Any = DETECTORS[name]

    def run(**settings: float) -> Flags:
        found = cls.preset("fast", **settings).judge(victim)
        return found.flagged, found.scores

    told = {"ours, oracle": lambda: run(oracle=RATE)} if name == "ss" else {}
    return {"ours": run, **told}


def art_methods(victim: Victim) -> dict[str, Callable[[], Flags]]:
    """Name -> a run of ART's method; empty where ART is not installed."""
    try:
        from art.defences.detector.poison import ActivationDefence, SpectralSignatureDefense
    except ImportError:
        return {}
    classes, labels, features = len(victim.train.classes), victim.train.labels, np.array(victim.features)
    one_hot, classifier = np.eye(classes, dtype=np.float32)[labels], StoredActivations(features, classes)

    def spectral() -> Flags:
        share = RATE * len(labels) / int((labels == TARGET).sum())
        defence = SpectralSignatureDefense(classifier, features, one_hot, expected_pp_poison=share, batch_size=128, eps_multiplier=1.5)
        report, clean = defence.detect_poison()
        scores = np.zeros(len(labels))  # its report holds those of what it flags only
        scores[list(report)] = list(report.values())
        return ~np.asarray(clean, bool), scores

    def activation() -> Flags:
        defence = ActivationDefence(classifier, features, one_hot)
        flagged = ~np.asarray(defence.detect_poison(nb_clusters=2, nb_dims=10, reduce="PCA")[1], bool)
        return flagged, flagged.astype(float)

    return {"ss": spectral, "ac": activation}


def timed(run: Callable[[], Flags], poison: np.ndarray, inside: np.ndarray) -> dict[str, Any]:
    """Seconds of a run, and how well it found the ``poison`` (N,) bool, which lies in the class ``inside`` (N,) bool."""
    began = time.perf_counter()
    flagged, scores = run()
    seconds = time.perf_counter() - began
    auc = area(scores[inside & poison], scores[inside & ~poison])
    return {"seconds": seconds, "tpr": float(flagged[poison].mean()), "fpr": float(flagged[~poison].mean()), "auc": auc}


def area(high: np.ndarray, low: np.ndarray) -> float:
    """Chance that one of ``high`` lies above one of ``low``, ties counted half."""
    low = np.sort(low)
    return float((np.searchsorted(low, high) + np.searchsorted(low, high, side="right")).mean() / (2 * len(low)))


def speed(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    labels, poison = write_features(folder / "x.npy", args.samples, args.width, args.classes, 0)
    reserve_labels, bad = write_features(folder / "r.npy", args.reserve, args.width, args.classes, 1)
    reserve = np.load(folder / "r.npy")[~bad]
    victim = victim_of(np.load(folder / "x.npy"), labels, reserve, reserve_labels[~bad], args.classes)
    theirs = art_methods(victim)
    rows: dict[str, Any] = {}
    for turn in range(args.repeats + 1):  # the first turn warms up
        for name in args.detectors:
            ways = {**ours_methods(name, victim), **({"art": theirs[name]} if name in theirs else {})}
            for who, run in ways.items():
                result = timed(run, poison, labels == TARGET)
                row = rows.setdefault(name, {}).setdefault(who, {"seconds": []})
                row.update({key: value for key, value in result.items() if key != "seconds"})
                if turn:
                    row["seconds"].append(result["seconds"])
                print(name, who, "warming up" if not turn else f"{result['seconds']:.3f} s", flush=True)
    for row in rows.values():
        for who in row.values():
            who["median"] = statistics.median(who["seconds"])
        if "art" in row:
            row["times faster than art"] = row["art"]["median"] / row["ours"]["median"]
    note = "" if theirs else "adversarial-robustness-toolbox is not installed: ours are timed alone"
    if note:
        print(note)
    return {"detectors": rows, "note": note}


def memory(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    labels, _ = write_features(folder / "x.npy", args.samples, args.width, args.classes, 0)
    reserve_labels, _ = write_features(folder / "r.npy", args.reserve, args.width, args.classes, 1)
    np.savez(folder / "labels.npz", train=labels, reserve=reserve_labels)
    rows = {}
    for name in args.detectors:
        words = [sys.executable, __file__, "--one", name, "--folder", str(folder), "--classes", str(args.classes)]
        rows[name] = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        print(name, f"peak {rows[name]['peak_rss_mb']:.0f} MB, of which before the detector {rows[name]['before_mb']:.0f} MB", flush=True)
    return {"detectors": rows, "features_mb": (folder / "x.npy").stat().st_size / 2**20}


def one(name: str, folder: Path, classes: int) -> None:
    """Runs one detector on stored features; prints the peak memory of this process as json."""
    y = np.load(folder / "labels.npz")
    x, r = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "r.npy")
    victim = victim_of(x, y["train"], r, y["reserve"], classes)
    before, began = high_water(), time.perf_counter()
    DETECTORS[name].preset("fast").judge(victim)
    print(json.dumps({"peak_rss_mb": high_water(), "before_mb": before, "seconds": time.perf_counter() - began}))


def high_water() -> float:
    """Peak resident memory in MB since this program started (ru_maxrss would count the parent's at the fork)."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def where_from() -> dict[str, object]:
    try:
        art = importlib.metadata.version("adversarial-robustness-toolbox")
    except importlib.metadata.PackageNotFoundError:
        art = "not installed"
    return {**provenance("cpu", " ".join(sys.argv)), "art": art, "load": os.getloadavg()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory", action="store_true", help="peak memory on features on disk, instead of seconds")
    parser.add_argument("--samples", type=int, help="50,000; with --memory 1,000,000")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--reserve", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--detectors", nargs="+", default=OURS, choices=OURS)
    parser.add_argument("--one", choices=OURS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the features are written, instead of the system's temporary folder")
    args = parser.parse_args()
    if args.one:
        one(args.one, args.folder, args.classes)
        return
    args.samples = args.samples or (1_000_000 if args.memory else 50_000)
    began = where_from()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        result = (memory if args.memory else speed)(args, Path(folder))
    sizes = {key: getattr(args, key) for key in ("samples", "width", "classes", "reserve", "repeats")}
    text = json.dumps({**sizes, **result, **began}, indent=1)
    if args.out:
        args.out.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
