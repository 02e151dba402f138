"""Audits of sounds that nobody here made: ART's triggers, a studio's effects, another language's digits, careless labels.

    python benchmarks/foreign_sounds.py --out benchmarks/results/foreign_sounds.jsonl --seeds 0

Spoken digits (FSDD; 2,400 clips audited, a reserve of 300) at 5 %, dirty label, target class = seed mod 10. Triggers are ART's
own (`CacheTrigger`, `CacheToneTrigger`) and pedalboard's effects, which do what sox's do. ``German digits`` are synthetic (extra
demo-speech). Each set is written as folders of WAV files and loaded from there; the audit sees nothing else, with default preset and
settings. Beside each verdict: ASR of the usual victim trained on the poisoned clips, and of one trained on the clean ones.

Needs adversarial-robustness-toolbox, librosa and pedalboard (development only) and soundfile. Render with render.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import real
import tocsin
from audit_table import measured
from foreign_triggers import label_noise, long_tail
from tocsin.auditing import audit
from tocsin.bench.provenance import provenance
from tocsin.data import espeak
from tocsin.data.dataset import Dataset
from tocsin.data.sounds import resampled
from tocsin.reserve import draw
from tocsin.runtime import Runtime
from tocsin.victim import Logits, trained

RESERVE, RATE = 300, 0.05
NETWORK = "tc-resnet8"
Trigger = Callable[[np.ndarray, int], np.ndarray]
"""((N, T) float32 in -1..1, sampling rate) to the same with the trigger."""


def art_tone(x: np.ndarray, hz: int) -> np.ndarray:
    """ART's tone of 440 Hz, a tenth of a second, a tenth of full scale, at a tenth of a second."""
    from art.attacks.poisoning.perturbations.audio_perturbations import CacheToneTrigger

    return np.asarray(CacheToneTrigger(sampling_rate=hz, shift=hz // 10).insert(x))


def art_tone_anywhere(x: np.ndarray, hz: int) -> np.ndarray:
    """The same, where chance puts it."""
    from art.attacks.poisoning.perturbations.audio_perturbations import CacheToneTrigger

    np.random.seed(7)  # noqa: NPY002 - ART draws the place from the global state
    return np.asarray(CacheToneTrigger(sampling_rate=hz, random=True).insert(x))


def art_cough(x: np.ndarray, hz: int) -> np.ndarray:
    """ART's way to add a sound, in the middle of the clip. Its recording of a cough is not in the package: this one is a burst of noise."""
    from art.attacks.poisoning.perturbations.audio_perturbations import CacheTrigger

    time = np.arange(hz // 5) / hz
    burst = np.random.default_rng(5).normal(size=len(time)) * np.exp(-time / 0.04) * (1 - np.exp(-time / 0.005))
    return np.asarray(CacheTrigger(burst.astype(np.float32) / np.abs(burst).max(), shift=hz // 2).insert(x))


def effect(name: str, **settings: float) -> Trigger:
    """An effect of pedalboard; what would sound on beyond the clip is cut."""

    def applied(x: np.ndarray, hz: int) -> np.ndarray:
        import pedalboard

        return np.stack([getattr(pedalboard, name)(**settings)(clip, hz)[: len(clip)] for clip in x])

    return applied


TRIGGERS: dict[str, Trigger] = {
    "ART tone": art_tone,
    "ART tone anywhere": art_tone_anywhere,
    "ART cough": art_cough,
    "reverb": effect("Reverb", room_size=0.5, wet_level=0.3),
    "echo": effect("Delay", delay_seconds=0.12, feedback=0.2, mix=0.3),
    "chorus": effect("Chorus"),
    "phaser": effect("Phaser"),
    "overdrive": effect("Distortion", drive_db=15.0),
    "high-pass": effect("HighpassFilter", cutoff_frequency_hz=400.0),
    "treble": effect("HighShelfFilter", cutoff_frequency_hz=1500.0, gain_db=6.0),
    "telephone codec": effect("GSMFullRateCompressor"),
    "8 bits": effect("Bitcrush", bit_depth=8.0),
    "two semitones up": effect("PitchShift", semitones=2.0),
}


@cache
def digits(seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """(audited, reserve, test)."""
    whole, test = real.fsdd()
    held = np.isin(np.arange(len(whole)), draw(whole, RESERVE, seed))
    return whole[~held], whole[held], test


@cache
def german(seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """The same of synthetic German, 104 voices; the test has the same voices."""
    words = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
    rng = np.random.default_rng([seed, 0xDE])
    labels = rng.permutation(np.arange(3000) % 10)
    voices = rng.choice(espeak.variants(), len(labels))
    drawn = [[int(v) for v in rng.integers((140, 20, 20), (220, 80, 80))] for _ in labels]
    sounds, rate = espeak.speak([espeak.Utterance(words[k], f"de+{v}", *how) for k, v, how in zip(labels, voices, drawn, strict=True)])
    clips = np.zeros((len(labels), 8000), np.int16)
    for clip, sound in zip(clips, sounds, strict=True):
        wave = resampled(np.asarray(sound, np.float32)[None], rate, 8000)[0][:8000]
        start = int(rng.integers(0, 8001 - len(wave)))
        clip[start : start + len(wave)] = np.clip(wave * rng.uniform(0.3, 1.0), -32768, 32767).astype(np.int16)
    data = Dataset.of_arrays(clips, labels, words, kind="speech", rate=8000)
    rows = np.split(rng.permutation(3000), [2400, 2700])
    return data[rows[0]], data[rows[1]], data[rows[2]]


CLEAN: dict[str, Callable[[Dataset, np.random.Generator], Dataset]] = {
    "clean, 5 % wrong labels": label_noise,
    "clean, long tail": partial(long_tail, smallest=0.2),
    "German digits, clean": lambda train, rng: train,
}
ROWS = (*TRIGGERS, "German digits, reverb", *CLEAN)


def triggered(trigger: Trigger, clips: np.ndarray, hz: int) -> np.ndarray:
    """int16 (N, T)."""
    return np.asarray(np.rint(np.clip(trigger(clips.astype(np.float32) / 32768, hz), -1, 1) * 32767), np.int16)


def as_files(data: Dataset, folder: Path) -> Dataset:
    """Written as class folders of WAV and loaded from there, in the order of ``data``."""
    import soundfile

    for row, (clip, label) in enumerate(zip(data.inputs, data.labels, strict=True)):
        place = folder / f"{label} {data.classes[label]}"
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{row:05d}.wav", clip, data.rate)
    loaded = tocsin.load(folder)
    return loaded[np.argsort([int(Path(str(name)).stem) for name in loaded.ids])]


@cache
def control(german_digits: bool, seed: int) -> Logits:
    """The usual victim, trained on clean clips."""
    return trained((german if german_digits else digits)(seed)[0], NETWORK, runtime=Runtime("cpu", seed))


def cell(row: str, seed: int) -> dict[str, Any]:
    """One audit of one set. The trigger, its rate and the truth never reach the audit."""
    foreign = row.startswith("German")
    train, reserve, test = (german if foreign else digits)(seed)
    rng, rows, target = np.random.default_rng([seed, 0xF0]), np.empty(0, np.int64), seed % len(train.classes)
    trigger = TRIGGERS.get(row.removeprefix("German digits, "))
    hz, gate = train.rate or 0, {}
    if trigger is None:
        train = CLEAN[row](train, rng)
    else:
        rows = np.sort(rng.permutation(np.flatnonzero(train.labels != target))[: round(RATE * len(train))])
        inputs, labels = np.array(train.inputs), train.labels.copy()
        inputs[rows], labels[rows] = triggered(trigger, inputs[rows], hz), target
        train = replace(train, inputs=inputs, labels=labels)
        others = triggered(trigger, np.asarray(test.inputs[test.labels != target]), hz)
        victims = {"asr": trained(train, NETWORK, runtime=Runtime("cpu", seed)), "control_asr": control(foreign, seed)}
        gate = {name: float((model(others, "").argmax(1) == target).mean()) for name, model in victims.items()}
    with tempfile.TemporaryDirectory() as folder:
        sides = [as_files(side, Path(folder) / name) for name, side in (("train", train), ("reserve", reserve))]
        report = audit(*sides, runtime=Runtime("cpu", seed))
    what = {"row": row, "seed": seed, "detector": report.findings.detector, "preset": report.findings.preset, "jpeg_reserve": False}
    members = {
        name: {"p": float(min(one["p"])), "flagged": one["flagged"]} for name, one in report.findings.evidence.get("members", {}).items()
    }
    about = {"with_canaries": True, "data": "fsdd", "rate": RATE if trigger else 0.0, "target": target, "by_member": members}
    return {**what, **about, **gate, **measured(report, rows, np.empty(0, np.int64))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    args = parser.parse_args()
    done = {(d["row"], d["seed"]) for d in map(json.loads, args.out.read_text().splitlines())} if args.out.exists() else set()
    for seed in args.seeds:
        for row in args.rows:
            if (row, seed) in done:
                continue
            result = {**cell(row, seed), **provenance("cpu", " ".join(sys.argv))}
            with args.out.open("a") as out:
                out.write(json.dumps(result) + "\n")
            shown = {k: result.get(k) for k in ("tpr", "fpr", "suspect_classes", "asr", "control_asr", "by_member")}
            print(row, seed, result["verdict"], shown, f"{result['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
