"""The audit's table for speech: data x attack x rate x seed, one json line a cell with provenance; finished cells are not repeated.

python benchmarks/speech_audit.py --out benchmarks/results/speech_audit.jsonl --seeds 0 1 2
python benchmarks/speech_audit.py --out benchmarks/results/speech_audit.jsonl --seeds 0 1 2 3 4 5 6 7 8 9 --attacks clean
python benchmarks/speech_audit.py --out benchmarks/results/speech_audit.jsonl --seeds 0 1 2 --data commands --attacks clean
python benchmarks/speech_audit.py --out benchmarks/results/speech_gates.jsonl --seeds 0 1 2 --data all-commands --members

What is audited: FSDD's official training split, or as many clips of ten command words, less a reserve of 300 drawn by class; speakers are
not named. Or (``all-commands``) every clip of those words that is not in the test, 5,134, less a reserve of a tenth.
Or ``espeak``, synthetic speech (extra demo-speech): 3,000 clips, a reserve of 1,000, speakers named. The target is class seed
mod 10. Each line: the verdict of the default for speech and of each member, with the canaries they found; the share of planted clips (TPR)
and of others (FPR) flagged; the areas under the curve inside the target class; and whether the attack works at all: ASR of the usual victim
trained on the poisoned clips, and of one trained on clean clips (the control). ``drl-clba`` is what its cache holds or takes minutes to
learn. Needs soundfile.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import real
from tocsin.attacks.base import Poisoned
from tocsin.auditing import controlled
from tocsin.bench.provenance import peak_rss_mb, provenance
from tocsin.data.dataset import Dataset
from tocsin.data.spoken import words
from tocsin.detectors.audible import Audible
from tocsin.poisoning import build, poison
from tocsin.reserve import draw
from tocsin.runtime import Runtime
from tocsin.victim import Logits, Trial, measured, trained

RESERVE = 300
COMMANDS = 2700
NETWORK = "tc-resnet8"
ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "clean": ("none", {}),
    "tone": ("tone", {}),
    "spectrogram-patch": ("spectrogram-patch", {}),
    "noise": ("noise", {}),
    "pbsm": ("pbsm", {}),
    "jingleback": ("jingleback", {}),
    "stego": ("stego", {}),
    "stego clean label": ("stego", {"clean_label": True}),
    "flowmur": ("flowmur", {}),
    "slu": ("slu", {}),
    "narcissus-speech": ("narcissus-speech", {}),
    "drl-clba": ("drl-clba", {}),
    "collide": ("drl-clba", {"mode": "collide"}),
}
"""Row -> attack and settings. ``ultrasonic`` needs clips of 44.1 kHz, which neither set has."""


@cache
def sets(data: str, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """(audited, reserve, test)."""
    if data == "espeak":
        return words(seed, Runtime("cpu", seed))
    whole, test = real.fsdd() if data == "fsdd" else real.commands()
    if data == "commands":
        whole = whole[np.sort(np.random.default_rng([seed, 5]).permutation(len(whole))[:COMMANDS])]
    whole, test = replace(whole, groups=None), replace(test, groups=None)
    held = np.isin(np.arange(len(whole)), draw(whole, round(len(whole) / 10) if data == "all-commands" else RESERVE, seed))
    return whole[~held], whole[held], test


@cache
def control(data: str, seed: int) -> Logits:
    """The usual victim, trained on clean clips."""
    return trained(sets(data, seed)[0], NETWORK, runtime=Runtime("cpu", seed))


def area(truth: np.ndarray, scores: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores)) if truth.any() and not truth.all() else None


def cell(data: str, row: str, rate: float, seed: int, members: tuple[str, ...], gate: bool) -> dict[str, Any]:
    """One set: its audit by the ``members``, if any, and whether its attack works. The attack and the truth never reach the audit."""
    runtime = Runtime("cpu", seed)
    train, _, test = sets(data, seed)
    name, settings = ATTACKS[row]
    target = seed % len(train.classes)
    poisoned = poison(train, build(name, **settings, **({} if name == "none" else {"rate": rate, "target": target})), seed, runtime)
    line: dict[str, Any] = {
        "data": data, "row": row, "rate": rate, "seed": seed, "members": list(members), "recipe": poisoned.recipe, "target": target,
        "samples": len(train), "planted": len(poisoned.planted),
    }  # fmt: skip
    if members:
        line |= audited(poisoned, data, seed, members)
    if gate and len(poisoned.planted):
        trial = Trial.of(poisoned.attack, test)
        works, clean = (
            measured(trained(poisoned.dataset, NETWORK, runtime=runtime), test, trial),
            measured(control(data, seed), test, trial),
        )
        line |= {"asr": works.asr, "acc": works.acc, "control_asr": clean.asr, "clean_acc": clean.acc}
    return line


def audited(poisoned: Poisoned, data: str, seed: int, members: tuple[str, ...]) -> dict[str, Any]:
    """What the ``members`` and their joint verdict say of the ``poisoned`` set, and how much of that is right."""
    runtime, reserve, inspected, target = Runtime("cpu", seed), sets(data, seed)[1], poisoned.dataset, seed % len(poisoned.dataset.classes)
    truth = np.isin(np.arange(len(inspected)), poisoned.planted)
    mine = inspected.labels == target
    asked = [member for member in Audible().built() if member.name in members]  # at the parts of alpha they have in the whole
    heard = [controlled(member, inspected, reserve, runtime) for member in asked]
    found = Audible(members=members).merged([findings for findings, _ in heard], inspected, reserve, runtime)
    return {
        "found": found.found,
        "named": [c.index for c in found.classes if c.suspect], "p": [c.p_value for c in found.classes],
        "tpr": float(found.flagged[truth].mean()) if truth.any() else None, "fpr": float(found.flagged[~truth].mean()),
        "auc_in_class": area(truth[mine], found.scores[mine]),
        "by_member": {
            findings.detector: {
                "auc_in_class": area(truth[mine], findings.scores[mine]), "p": [c.p_value for c in findings.classes],
                "false": int(findings.flagged[~truth].sum()), "true": int(findings.flagged[truth].sum()),
                "canaries": {c.trigger: [c.found, c.planted] for c in canaries}, "seconds": findings.timings["total"],
            }
            for findings, canaries in heard
        },
        "peak_rss_mb": peak_rss_mb(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", nargs="+", default=["fsdd"], choices=["fsdd", "commands", "all-commands", "espeak"])
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=list(ATTACKS))
    parser.add_argument("--rates", type=float, nargs="+", default=[0.05, 0.02])
    parser.add_argument("--members", nargs="*", default=list(Audible().members), help="none: audit nothing")
    parser.add_argument("--no-gate", action="store_true", help="train no victims")
    args = parser.parse_args()
    key = ("data", "row", "rate", "seed", "members")
    lines = map(json.loads, args.out.read_text().splitlines()) if args.out.exists() else ()
    done = {json.dumps([line[k] for k in key]) for line in lines}
    cells = [(d, row, rate, seed) for d in args.data for rate in args.rates for row in args.attacks for seed in args.seeds]
    for data, row, rate, seed in dict.fromkeys((d, row, 0.0 if row == "clean" else rate, seed) for d, row, rate, seed in cells):
        if json.dumps([data, row, rate, seed, args.members]) in done:
            continue
        line = cell(data, row, rate, seed, tuple(args.members), not args.no_gate)
        with args.out.open("a") as out:
            out.write(json.dumps({**line, **provenance("cpu", " ".join(sys.argv))}) + "\n")
        shown = {k: line.get(k) for k in ("found", "named", "tpr", "fpr", "auc_in_class", "asr", "control_asr")}
        print(data, row, rate, "seed", seed, shown, flush=True)


if __name__ == "__main__":
    main()
