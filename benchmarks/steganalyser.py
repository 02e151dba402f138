"""Does a network that learned the auditor's own marks find marks of a family it has not heard, and attacks? One json line a cell.

    python benchmarks/steganalyser.py --out benchmarks/results/steganalyser.jsonl --seeds 0 1 2

Spoken digits, a reserve of 300 clips drawn from the training split. ``family`` cells: the network is trained on three families of
`tocsin.detectors.embedders` and tells clean clips of the audited part from the same clips marked by the fourth, a fresh key each; all four
too. ``attack`` cells: the detector on poisoned copies, as in benchmarks/audio_stego.py (target = seed modulo 10). Each with
reference clips of the same word ("word"), of the same speaker and word as well ("speaker"), and without any ("none"). Finished cells are
not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from audio_stego import RESERVE, area, digits, poisoned
from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset
from tocsin.detectors.embedders import FAMILIES, marked
from tocsin.detectors.profiles import Traces
from tocsin.detectors.steganalyser import Judge, Steganalyser, kind_for, traces_of
from tocsin.poisoning import build, poison
from tocsin.reserve import draw
from tocsin.runtime import Runtime

TESTED = 400
"""Clips of the audited part that families are told from."""
HELD = ("word", "none", "speaker")
ATTACKS = ("clean", "tone", "noise", "spectrogram-patch", "pbsm", "jingleback", "eq 3 dB clean", "stego", "stego clean")
WHOLE = 9
"""Number of the network that is trained on the whole reserve; folds have lower ones."""
KEY = ("cell", "seed", "held", "left", "attack", "rate")
Line = dict[str, object]


@dataclass
class Bench:
    """One seed's data and what was already made of them."""

    seed: int
    cache: Path

    def __post_init__(self) -> None:
        whole = digits(True)
        held = np.isin(np.arange(len(whole)), draw(replace(whole, groups=None), RESERVE, self.seed))
        self.train, self.reserve = whole[~held], whole[held]
        self.runtime = Runtime("cpu", self.seed, cache=self.cache)
        self.kind = kind_for(whole)
        self.judged: dict[tuple[str, str], list[Judge]] = {}
        self.marks: dict[str, Traces] = {}
        self.seen: dict[tuple[str, float], tuple[Dataset, np.ndarray, int, Traces, Traces]] = {}

    def families(self, held: str) -> Iterator[Line]:
        """AUC of each family under a network that was trained on the others, and under one that was trained on all."""
        rows = np.random.default_rng([self.seed, 4]).choice(len(self.train), TESTED, replace=False)
        test = self.train[np.sort(rows)]
        clips, truth = np.asarray(test.inputs), np.repeat([False, True], TESTED)
        traces = {"": self.traces(test)}
        clean = self.traces(self.reserve)
        for number, name in enumerate(FAMILIES):
            rng = np.random.default_rng([self.seed, 5, number])
            traces[name] = self.traces(replace(test, inputs=marked(clips, self.kind, (name,), rng)))
        for left in (*FAMILIES, ""):
            began = time.process_time()
            taught = tuple(name for name in FAMILIES if name != left)
            detector = replace(of(held), families=taught)
            judge = self.trained(detector, clean, np.ones(len(self.reserve), bool), held, WHOLE)
            scores = {name: judge.odds(known(mine, held)) for name, mine in traces.items()}
            auc = {name: area(truth, np.concatenate([scores[""], scores[name]])) for name in FAMILIES}
            line: Line = {"cell": "family", "held": held, "left": left, "attack": "", "rate": 0.0}
            yield {**line, "auc": auc, "seconds": time.process_time() - began}

    def attack(self, held: str, left: str, attack: str, rate: float) -> Line:
        """The detector on one poisoned copy; networks are trained once for all copies, since they read the reserve alone."""
        began = time.process_time()
        if (attack, rate) not in self.seen:
            train, truth, target = self.poisoned(attack, rate)
            self.seen[attack, rate] = train, truth, target, *traces_of(self.kind, train, self.reserve, self.runtime)
        train, truth, target, mine, clean = self.seen[attack, rate]
        detector = replace(of(held), families=tuple(name for name in FAMILIES if name != left))
        if (held, left) not in self.judged:
            folds = enumerate(detector.held(self.reserve, self.runtime))
            self.judged[held, left] = [self.trained(detector, clean, ~mine, held, number) for number, mine in folds]
        scores, control = (detector.odds(self.judged[held, left], known(side, held), self.runtime) for side in (mine, clean))
        found, inside = detector.decided(scores, control, train, self.reserve), train.labels == target
        return {
            "cell": "attack", "held": held, "left": left, "attack": attack, "rate": rate, "planted": int(truth.sum()), "target": target,
            "auc_in_class": area(truth[inside], scores[inside]), "auc": area(truth, scores),
            "tpr": float(found.flagged[truth].mean()) if truth.any() else None, "fpr": float(found.flagged[~truth].mean()),
            "named": [c.index for c in found.classes if c.suspect], "p": [c.p_value for c in found.classes],
            "seconds": time.process_time() - began,
        }  # fmt: skip

    def trained(self, detector: Steganalyser, clean: Traces, rows: np.ndarray, held: str, number: int) -> Judge:
        """As `Steganalyser.judges` trains the network of that number; clips are marked once for all."""
        for name in detector.families:
            if name not in self.marks:
                self.marks[name] = detector.marked(self.kind, np.array(self.reserve.inputs), clean, name, self.runtime)
        copies = np.tile(rows, detector.copies)
        marks = [known(self.marks[name].part(copies), held) for name in detector.families]
        return detector.trained(known(clean.part(rows), held), marks, self.runtime, number)

    def poisoned(self, attack: str, rate: float) -> tuple[Dataset, np.ndarray, int]:
        if not attack.startswith("stego"):
            return poisoned(self.train, attack, rate, self.seed)
        target, truth = self.seed % len(self.train.classes), np.zeros(len(self.train), bool)
        stego = build("stego", rate=rate, target=target, clean_label=attack == "stego clean")
        done = poison(self.train, stego, self.seed, self.runtime)
        truth[done.planted] = True
        return done.dataset, truth, target

    def traces(self, data: Dataset) -> Traces:
        """By itself: all six speakers are among any few hundred clips, so that their numbers are those of the reserve."""
        return traces_of(self.kind, data, self.reserve[:0], self.runtime)[0]


def of(held: str) -> Steganalyser:
    return replace(Steganalyser(), references=0) if held == "none" else Steganalyser()


def known(traces: Traces, held: str) -> Traces:
    """Without speakers, unless clips are held against the same speaker's."""
    return traces if held == "speaker" else replace(traces, speakers=np.full(len(traces.labels), -1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--held", nargs="+", default=list(HELD), choices=HELD)
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS), choices=ATTACKS)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.05, 0.02], help="attack cells: share of all clips that is poison")
    parser.add_argument("--left", nargs="+", default=["", "mel-gain"], help="attack cells: the family that is not trained on; '' for none")
    parser.add_argument("--no-families", action="store_true", help="attack cells only")
    parser.add_argument("--cache", type=Path, default=Runtime().cache, help="where the learned attack's parts are kept")
    args = parser.parse_args()
    lines = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {tuple(line[k] for k in KEY) for line in lines}

    def keep(line: Line) -> None:
        with args.out.open("a") as out:
            out.write(json.dumps({**line, **provenance("cpu", " ".join(sys.argv))}) + "\n")
        print({k: v for k, v in line.items() if k not in ("p", "cell")}, flush=True)

    for seed in args.seeds:
        bench = Bench(seed, args.cache)
        for held in args.held:
            if not args.no_families and any(("family", seed, held, left, "", 0.0) not in done for left in (*FAMILIES, "")):
                for line in bench.families(held):
                    if ("family", seed, held, line["left"], "", 0.0) not in done:
                        keep({"seed": seed, **line})
            for attack, rate in ((a, r) for r in args.rates for a in args.attacks if a != "clean" or r == args.rates[0]):
                for left in args.left:
                    share = rate if attack != "clean" else 0.0
                    if ("attack", seed, held, left, attack, share) not in done:
                        keep({"seed": seed, **bench.attack(held, left, attack, share)})


if __name__ == "__main__":
    main()
