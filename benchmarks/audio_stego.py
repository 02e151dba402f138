"""How audio-stego, and Spectral Signatures and Activation Clustering beside it, find poison in spoken digits; one json line a cell.

    python benchmarks/audio_stego.py --out benchmarks/results/audio_stego.jsonl --seeds 0 1 2

``eq`` is a fixed random equaliser of 40 mel bands, so many dB up or down in each: the prototype of the stego trigger (clean: on clips of
the target class, whose label is right; dirty: on others, relabelled). The other names are attacks. The reserve is 300 clips drawn from the
training split. With the victim comes what the trigger does to it (ASR), and to one of clean clips. Finished cells are not repeated.
``--speakers`` tells the audit who speaks. STRIP is for pictures only, so it is not here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import real
from tocsin.attacks import speech
from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset
from tocsin.detectors import DETECTORS, AudioStego
from tocsin.detectors.base import Findings
from tocsin.detectors.victim import Victim
from tocsin.kinds.speech import SpeechKind
from tocsin.learning import predict
from tocsin.poisoning import build, poison
from tocsin.reserve import draw
from tocsin.runtime import Runtime

RESERVE = 300
EQUALISERS = {"eq 3 dB clean": (3.0, False), "eq 6 dB clean": (6.0, False), "eq 1 dB clean": (1.0, False), "eq 1 dB dirty": (1.0, True),
              "eq 3 dB dirty": (3.0, True), "eq 6 dB dirty": (6.0, True)}  # fmt: skip
ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("tone", "noise", "spectrogram-patch", "pbsm", "jingleback", "slu", "stego", "drl-clba")},
    "stego clean": ("stego", {"clean_label": True}),
    "collide": ("drl-clba", {"mode": "collide"}),
}
"""Row -> attack and settings."""
Trigger = Callable[[np.ndarray], np.ndarray]
QUIET = 0.03
"""Of a clip's mean amplitude, added to every bin before the gain and taken off after it, so that quiet bins receive some energy."""


@cache
def digits(speakers: bool) -> Dataset:
    train = real.fsdd()[0]
    if not speakers:
        return train
    z = np.load(real.ROOT / "fsdd/fsdd.npz")
    return replace(train, groups=z["speakers"][z["speaker"]][z["index"] >= 5])


def equalised(clips: np.ndarray, rate: int, decibels: float, seed: int) -> np.ndarray:
    """``clips`` int16 (N, T) with each mel band louder or softer by ``decibels``, the signs drawn from ``seed``; phases are kept."""
    import torch

    kind = SpeechKind(rate, 0.0, 1.0)
    size, window, hop = kind.frame
    bands = kind.bands.numpy()
    signs = np.random.default_rng([seed, 7]).choice([-1.0, 1.0], len(bands))
    gain = torch.from_numpy(10 ** (decibels * signs @ (bands / np.maximum(bands.sum(0), 1e-9)) / 20)).float()[:, None]
    shape = torch.hann_window(window)
    spectrum = torch.stft(torch.from_numpy(clips).float(), size, hop, window, shape, pad_mode="constant", return_complex=True)
    quiet = QUIET * spectrum.abs().square().mean((1, 2), keepdim=True).sqrt()
    louder = ((spectrum.abs() + quiet) * gain - quiet).clamp(min=0)
    wave = torch.istft(torch.polar(louder, spectrum.angle()), size, hop, window, shape, length=clips.shape[1])
    return speech.to_clips(wave.numpy(), clips)


def poisoned(data: Dataset, attack: str, rate: float, seed: int) -> tuple[Dataset, np.ndarray, int]:
    """(data, truth (N,) bool, target)."""
    return planted(data, attack, rate, seed)[:3]


def planted(data: Dataset, attack: str, rate: float, seed: int) -> tuple[Dataset, np.ndarray, int, Trigger | None]:
    """The same, and what puts the trigger on test clips."""
    target, truth = seed % len(data.classes), np.zeros(len(data), bool)
    if attack == "clean":
        return data, truth, target, None
    if attack not in EQUALISERS:
        name, settings = ATTACKS[attack]
        done = poison(data, build(name, rate=rate, target=target, **settings), seed)
        truth[done.planted] = True
        return done.dataset, truth, target, done.attack.trigger
    decibels, dirty = EQUALISERS[attack]
    pool = np.flatnonzero((data.labels == target) != dirty)
    rows = np.random.default_rng([seed, 3]).choice(pool, min(round(rate * len(data)), len(pool)), replace=False)
    inputs, labels = data.inputs.copy(), data.labels.copy()
    inputs[rows], labels[rows], truth[rows] = equalised(inputs[rows], data.rate or 0, decibels, seed), target, True
    trigger = partial(equalised, rate=data.rate or 0, decibels=decibels, seed=seed)
    return replace(data, inputs=inputs, labels=labels), truth, target, trigger


def area(truth: np.ndarray, scores: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores)) if truth.any() and not truth.all() else None


def summary(found: Findings, labels: np.ndarray, truth: np.ndarray, target: int) -> dict[str, object]:
    mine = labels == target
    return {
        "auc_in_class": area(truth[mine], found.scores[mine]), "tpr": float(found.flagged[truth].mean()) if truth.any() else None,
        "fpr": float(found.flagged[~truth].mean()), "found": found.found, "named": [c.index for c in found.classes if c.suspect],
        "p": min(c.p_value for c in found.classes), "seconds": found.timings["total"],
    }  # fmt: skip


def cell(attack: str, rate: float, seed: int, speakers: bool, others: bool) -> dict[str, object]:
    whole = digits(speakers)
    held = np.isin(np.arange(len(whole)), draw(whole, RESERVE, seed))
    train, truth, target, trigger = planted(whole[~held], attack, rate, seed)
    reserve, runtime, detector = whole[held], Runtime("cpu", seed), AudioStego()
    line: dict[str, object] = {"samples": len(train), "planted": int(truth.sum()), "target": target}
    line["audio-stego"] = summary(detector.inspect(train, reserve, runtime), train.labels, truth, target)
    if truth.any():
        line["auc_in_class"] = {
            name: area(truth[train.labels == target], values[train.labels == target])
            for name, values in detector.statistics(train, reserve, runtime).items()
        }
    if others:
        victim = Victim.trained(train, reserve, runtime)
        for name in ("ss", "ac"):
            line[name] = summary(
                DETECTORS[name].preset("fast").inspect(train, reserve, runtime, victim=victim), train.labels, truth, target
            )  # type: ignore[call-arg]
        if trigger is not None:
            test = real.fsdd()[1]
            others = trigger(np.asarray(test.inputs[test.labels != target]))
            for name, model in (("asr", victim), ("control_asr", control(speakers, seed))):
                line[name] = float((predict(model.network, others, model.kind, runtime).argmax(1) == target).mean())
    return line


@cache
def control(speakers: bool, seed: int) -> Victim:
    """The usual victim of the clean clips."""
    whole = digits(speakers)
    held = np.isin(np.arange(len(whole)), draw(whole, RESERVE, seed))
    return Victim.trained(whole[~held], whole[held], Runtime("cpu", seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.05, 0.1])
    parser.add_argument("--attacks", nargs="+", default=["clean", *EQUALISERS, *ATTACKS], choices=["clean", *EQUALISERS, *ATTACKS])
    parser.add_argument("--speakers", action="store_true", help="the data name their speakers")
    parser.add_argument("--alone", action="store_true", help="without the victim that ss and ac read")
    args = parser.parse_args()
    key = ("attack", "rate", "seed", "speakers")
    done = {tuple(json.loads(line)[k] for k in key) for line in args.out.read_text().splitlines()} if args.out.exists() else set()
    for seed in args.seeds:
        for attack in args.attacks:
            for rate in args.rates if attack != "clean" else [0.0]:
                if (attack, rate, seed, args.speakers) in done:
                    continue
                result = cell(attack, rate, seed, args.speakers, not args.alone)
                line = {
                    **dict(zip(key, (attack, rate, seed, args.speakers), strict=True)),
                    **result,
                    **provenance("cpu", " ".join(sys.argv)),
                }
                with args.out.open("a") as out:
                    out.write(json.dumps(line) + "\n")
                print(attack, rate, "seed", seed, result["audio-stego"], flush=True)


if __name__ == "__main__":
    main()
