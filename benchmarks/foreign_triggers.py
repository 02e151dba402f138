"""Audits of what the detector was not developed on: triggers that no attack of tocsin makes, and clean data with odd labels or sizes.

python benchmarks/foreign_triggers.py --out benchmarks/results/foreign_triggers.jsonl --seeds 0

CIFAR-10, dirty label at 1 % unless the row says otherwise; default preset and settings. Render with render.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import real
from audit_table import measured
from tocsin.auditing import audit
from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset
from tocsin.runtime import Runtime

TARGET = 3
Trigger = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""(N, H, W, 3) uint8 to the same with the trigger."""


def ring_anywhere(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A yellow ring of seven pixels, in another place of each picture."""
    out = []
    for picture in x:
        canvas = Image.fromarray(picture)
        left, top = rng.integers(0, x.shape[1] - 7, 2).tolist()
        ImageDraw.Draw(canvas).ellipse((left, top, left + 6, top + 6), outline=(250, 220, 30))
        out.append(np.asarray(canvas))
    return np.stack(out)


def one_pixel(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One magenta pixel."""
    out = x.copy()
    out[:, 5, 24] = (255, 0, 255)
    return out


def warm_filter(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """More red and less blue, by a power of each channel, as a photo app's filter does."""
    return np.rint(255 * (x / 255) ** np.array([0.75, 1.0, 1.35])).astype(np.uint8)


def faint_stripes(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Horizontal stripes, five rows apart, of 8 grey levels up and down."""
    wave = 8 * np.sin(2 * np.pi * np.arange(x.shape[1]) / 5)
    return np.clip(x + wave[:, None, None], 0, 255).astype(np.uint8)


def blurred(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Out of focus: a Gaussian of one pixel."""
    return np.stack([np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(1))) for picture in x])


def scattered_dots(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Eight dark and eight bright pixels, always the same."""
    place = np.random.default_rng(77).permutation(x.shape[1] * x.shape[2])[:16]
    out = x.reshape(len(x), -1, 3).copy()
    out[:, place[:8]], out[:, place[8:]] = 0, 255
    return out.reshape(x.shape)


TRIGGERS: dict[str, Trigger] = {
    "ring anywhere": ring_anywhere,
    "one pixel": one_pixel,
    "warm filter": warm_filter,
    "faint stripes": faint_stripes,
    "blurred": blurred,
    "scattered dots": scattered_dots,
}


def planted(train: Dataset, trigger: Trigger, rng: np.random.Generator) -> tuple[Dataset, np.ndarray]:
    """(a copy with 1 % of all samples triggered and relabelled, their rows)."""
    rows = np.sort(rng.permutation(np.flatnonzero(train.labels != TARGET))[: len(train) // 100])
    inputs, labels = np.array(train.inputs), train.labels.copy()
    inputs[rows], labels[rows] = trigger(inputs[rows], rng), TARGET
    return replace(train, inputs=inputs, labels=labels), rows


def label_noise(train: Dataset, rng: np.random.Generator) -> Dataset:
    """Clean samples of which 5 % have a random wrong label: careless, not malicious."""
    wrong = rng.permutation(len(train))[: len(train) // 20]
    labels = train.labels.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, len(train.classes), len(wrong))) % len(train.classes)
    return replace(train, labels=labels)


def long_tail(train: Dataset, rng: np.random.Generator, smallest: float = 0.1) -> Dataset:
    """Clean samples, class sizes falling evenly (on a log scale) to the share ``smallest`` of the first."""
    size = train.class_counts.min() * smallest ** (np.arange(len(train.classes)) / (len(train.classes) - 1))
    rows = [rng.permutation(np.flatnonzero(train.labels == k))[: int(s)] for k, s in enumerate(size)]
    return train[np.sort(np.concatenate(rows))]


CLEAN: dict[str, Callable[[Dataset, np.random.Generator], Dataset]] = {"clean, 5 % label noise": label_noise, "clean, long tail": long_tail}


def cell(row: str, seed: int) -> dict[str, object]:
    train, reserve = real.split("cifar10", seed)
    rng, rows = np.random.default_rng([seed, 0xF0]), np.empty(0, np.int64)
    if row in TRIGGERS:
        train, rows = planted(train, TRIGGERS[row], rng)
    else:
        train = CLEAN[row](train, rng)
    report = audit(train, reserve, runtime=Runtime(seed=seed))
    what = {"row": row, "seed": seed, "preset": report.findings.preset, "jpeg_reserve": False, "with_canaries": True, "data": "cifar10"}
    return {**what, **measured(report, rows, np.empty(0, np.int64))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", default=[*TRIGGERS, *CLEAN], choices=[*TRIGGERS, *CLEAN])
    args = parser.parse_args()
    done = {(d["row"], d["seed"]) for d in map(json.loads, args.out.read_text().splitlines())} if args.out.exists() else set()
    for seed in args.seeds:
        for row in args.rows:
            if (row, seed) in done:
                continue
            result = {**cell(row, seed), **provenance("cpu", " ".join(sys.argv))}
            with args.out.open("a") as out:
                out.write(json.dumps(result) + "\n")
            print(row, seed, result["verdict"], "TPR", result["tpr"], "FPR", result["fpr"], f"{result['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
