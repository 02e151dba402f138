"""DRL-CLBA on speech: does it work, and does the agent matter? docs/drl-clba.md shows the results. Needs soundfile and the extra rl.

    python benchmarks/drl_clba.py attack --out benchmarks/results/drl_clba.jsonl
    python benchmarks/drl_clba.py attack --modes collide+stego stego none --victims tc-resnet8 --seeds 0 --out ...
    python benchmarks/drl_clba.py attack --data commands --modes collide+stego --victims tc-resnet8 --seeds 0 1 2 --out ...
    python benchmarks/drl_clba.py queries --seeds 0 1 2 --out benchmarks/results/drl_clba_queries.jsonl

Data: FSDD's official split, or 2,700 clips of ten command words, drawn once, no speaker of which is in the test (real.py). The target is
class 0 of FSDD; of the command words, which are not equally frequent, the seed-th of those that have the clips for the rate, in turn.
``attack``: one line for each mode, victim and seed. Victims are networks trained from scratch on the poisoned set, or the surrogate
fine-tuned on it, or with a new last layer; the control is the same trigger on a victim of the same kind trained on clean data with another
seed. ``queries``: one line for each searcher or agent, budget of queries and seed, on target-class clips (30 %) that no agent learned on;
agents also say what their learning cost.

Everything that is learned for a seed is learned once and kept in ``--cache`` (by default the user's); the lines say how long it took where
they were the ones to learn it. A stopped run keeps its lines and a second call does the rest. ``--set`` changes settings of the attack.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import real
from tocsin.attacks import DrlClba
from tocsin.attacks.collision_agent import Trained, Training, roll_out, train_agent
from tocsin.attacks.collision_scene import Scene, Weights
from tocsin.attacks.collision_search import SEARCHERS, outcome, search
from tocsin.attacks.drl_clba import MODES
from tocsin.attacks.drl_clba_training import Crafter, episode_of, weights_of
from tocsin.attacks.stamps import rows_for
from tocsin.bench.provenance import provenance
from tocsin.data.dataset import Dataset
from tocsin.kinds import Kind, SpeechKind, kind_of
from tocsin.learning import features, fit, predict, usual_settings
from tocsin.networks import Classifier, build_network
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime, default_cache
from tocsin.stats.audibility import audibility
from tocsin.victim import Trial, measure

VICTIMS = ("tc-resnet8", "att-rnn", "small", "finetune", "probe")
"""Networks trained from scratch; the attacker's own surrogate, fine-tuned as a whole; that surrogate with a new last layer alone."""
AMPLIFICATIONS = (1.0, 1.4, 1.8)
BUDGETS = (6, 30, 150, 400)
WRONG_KEYS = 8
HEARD = 100
"""Clips whose audibility is measured."""
COMMANDS = 2700
Line = dict[str, Any]


def finetuned(model: Classifier, data: Dataset, kind: Kind, runtime: Runtime) -> Classifier:
    """All weights of a network that was trained before, for three epochs at a tenth of the usual rate."""
    how = replace(usual_settings("tc-resnet8"), epochs=3, lr=0.01)
    return fit(model, data.inputs, data.labels, kind, how, runtime)


def probed(model: Classifier, data: Dataset, kind: Kind, runtime: Runtime) -> Classifier:
    """A new last layer, by logistic regression, on the features of a network that stays as it is."""
    import torch
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(max_iter=500).fit(features(model, data.inputs, kind, runtime), data.labels)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(found.coef_))
        model.head.bias.copy_(torch.from_numpy(found.intercept_))
    return model


def commands() -> tuple[Dataset, Dataset]:
    """(train, test): as many clips of ten command words as FSDD's training split has, at their own frequencies; all test clips."""
    train, test = real.commands()
    return train[np.sort(np.random.default_rng(0).permutation(len(train))[:COMMANDS])], test


DATA: dict[str, Callable[[], tuple[Dataset, Dataset]]] = {"fsdd": real.fsdd, "commands": commands}
REGIMES: dict[str, Callable[[Classifier, Dataset, Kind, Runtime], Classifier]] = {"finetune": finetuned, "probe": probed}


class Clock:
    """A progress sink that notes how long each stage took; stages follow each other."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.last = time.perf_counter()

    def __call__(self, stage: str, fraction: float) -> None:
        now = time.perf_counter()
        self.seconds[stage] += now - self.last
        self.last = now

    def taken(self) -> dict[str, float]:
        """Seconds by stage since this was asked last."""
        out, self.seconds = {stage: round(value, 2) for stage, value in self.seconds.items()}, defaultdict(float)
        self.last = time.perf_counter()
        return out


class Bench:
    """The data, and what was learned on them."""

    def __init__(self, data: str, settings: dict[str, str], device: str, folder: Path) -> None:
        self.train, self.test = DATA[data]()
        self.data, self.settings, self.device, self.folder, self.clock = data, settings, device, folder, Clock()
        self.clean = cache(lambda victim, seed: self.trained(self.train, victim, seed, seed + 1000))
        self.attack = cache(self.prepared)

    def runtime(self, seed: int) -> Runtime:
        return Runtime(self.device, seed, self.folder, progress=self.clock)

    def prepared(self, seed: int) -> tuple[DrlClba, dict[str, float]]:
        """The attack learned from ``seed``, and the seconds by stage that this took; none where the cache had it."""
        self.clock.taken()
        attack = build("drl-clba", **self.settings)
        assert isinstance(attack, DrlClba)
        if self.data == "commands" and "target" not in self.settings:
            counts = np.bincount(self.train.labels)
            able = np.flatnonzero(counts >= rows_for("rate", attack.rate, len(self.train)))
            attack = replace(attack, target=int(able[seed % len(able)]))
        return attack.prepared(self.train, self.runtime(seed)), self.clock.taken()

    def trained(self, data: Dataset, victim: str, seed: int, own: int) -> tuple[Classifier, Kind]:
        """A victim of the attack learned from ``seed``; what is random about itself comes from ``own``."""
        if victim in REGIMES:
            surrogate = Crafter.of(self.attack(seed)[0]).surrogate
            kind = SpeechKind(surrogate.kind.rate, float(surrogate.mean), float(surrogate.std))
            return REGIMES[victim](surrogate.body.requires_grad_(True), data, kind, self.runtime(own)), kind
        kind = kind_of(data)
        model = build_network(victim, kind.channels, len(data.classes), own)
        return fit(model, data.inputs, data.labels, kind, usual_settings(victim), self.runtime(own)), kind

    def rows(self, mode: str, network: str, seed: int) -> Line:
        """One line of the part ``attack``."""
        ready, learning = self.attack(seed)
        self.clock.taken()
        result = poison(self.train, replace(ready, mode=mode), seed, self.runtime(seed))
        crafting = self.clock.taken()
        began = time.perf_counter()
        victim, control = self.trained(result.dataset, network, seed, seed), self.clean(network, seed)
        seconds = time.perf_counter() - began
        assert isinstance(result.attack, DrlClba)
        line: Line = {"target": ready.target, "planted": len(result.planted), "figures": ready.figures(), "facts": facts_of(result.attack)}
        for amplification in AMPLIFICATIONS:
            trial = Trial.of(replace(result.attack, amplification=amplification), self.test)
            got, plain = (measure(*self.seen(model), self.runtime(seed), trial) for model in (victim, control))
            line |= {"acc": got.acc, "clean_acc": plain.acc, "ba_drop": plain.acc - got.acc, "victims": got.victims}
            line[f"asr_{amplification}"], line[f"control_{amplification}"] = got.asr, plain.asr
        line["wrong_key"] = self.wrong_keys(result.attack, victim, seed)
        line |= self.heard(result.attack, result.planted, result.dataset) | self.unseen(result.attack, control, seed)
        return line | {"seconds": {"learning": learning, "crafting": crafting, "victims": seconds}}

    def seen(self, model: tuple[Classifier, Kind]) -> tuple[Classifier, Dataset, Kind]:
        return model[0], self.test, model[1]

    def wrong_keys(self, attack: DrlClba, victim: tuple[Classifier, Kind], seed: int) -> list[float]:
        """ASR of triggers with keys drawn at random (2.8, false trigger)."""
        rng, found = np.random.default_rng([seed, 0xBAD]), []
        for _ in range(WRONG_KEYS):
            key = rng.integers(0, 2, attack.bits).astype(np.uint8)
            other = replace(attack, learned={**attack.learned, "key": key})
            found.append(measure(*self.seen(victim), self.runtime(seed), Trial.of(other, self.test)).asr)
        return [float(value) for value in found if value is not None]

    def heard(self, attack: DrlClba, planted: np.ndarray, data: Dataset) -> Line:
        """How far the poisons, and triggered test clips, can be told from what they were."""
        assert data.rate is not None
        some = planted[:HEARD]
        clean = self.test.inputs[attack.victims(self.test.labels)][:HEARD]
        pairs = {"trigger": (clean, attack.trigger(clean))}
        if len(some):
            pairs["poison"] = (self.train.inputs[some], data.inputs[some])
        return {f"heard_{name}": audibility(*pair, data.rate).as_dict() for name, pair in pairs.items()}

    def unseen(self, attack: DrlClba, model: tuple[Classifier, Kind], seed: int) -> Line:
        """In a network the attacker never saw: the way left to the anchor's clip, and the share of poisons taken for their label."""
        facts = attack.facts()
        if "anchor" not in facts or (facts["anchor"] < 0).any():
            return {}
        crafter = Crafter.of(attack)
        plain = self.train.inputs[facts["rows"]]
        poisons = poison(self.train, attack, seed, self.runtime(seed)).dataset.inputs[facts["rows"]]
        sources = crafter.hide(np.asarray(self.train.inputs[facts["anchor"]]))
        here, there, goal = (features(model[0], x, model[1], self.runtime(seed)) for x in (plain, poisons, sources))
        left = np.linalg.norm(there - goal, axis=1) / np.maximum(np.linalg.norm(here - goal, axis=1), 1e-6)
        kept = predict(model[0], poisons, model[1], self.runtime(seed)).argmax(1) == attack.target
        return {"unseen_distance": float(left.mean()), "unseen_kept_label": float(kept.mean())}

    def queries(self, name: str, seed: int, budgets: list[int]) -> Iterator[tuple[int, Line]]:
        """(queries for each clip, line) of one searcher or agent."""
        from tocsin.attacks.collision_agent import own_randomness

        ready, _ = self.attack(seed)
        variant, changes = AGENTS.get(name, (lambda attack: attack, {}))
        attack = variant(ready)
        rng = np.random.default_rng([seed, 0x9E1D])
        own = rng.permutation(np.flatnonzero(self.train.labels == attack.target))
        cut = round(0.7 * len(own))
        crafter = replace(Crafter.of(ready), attack=replace(attack, learned=ready.learned))
        learned_on, held = (crafter.scene(np.asarray(self.train.inputs[rows]), rng)[0] for rows in (own[:cut], own[cut:]))
        judged = replace(held, weights=weights_of(ready))  # whatever was learned with: all are measured by the same reward
        began = time.perf_counter()
        if name in SEARCHERS:
            with own_randomness(seed):
                found = search(name, held, budgets, seed)
            for budget, actions in found.items():
                yield budget, summary(judged, actions) | {"seconds": time.perf_counter() - began}
            return
        trained = train_agent(learned_on, episode_of(attack), replace(Training(attack.batches), **changes), self.runtime(seed))
        yield attack.steps, summary(judged, rolled(held, trained, attack)) | {
            "seconds": trained.seconds, "environment": trained.environment, "learning_queries": trained.queries / cut,
            "returns": trained.returns,
        }  # fmt: skip


def rolled(scene: Scene, trained: Trained, attack: DrlClba) -> Any:
    import torch

    return roll_out(scene, trained.policy, episode_of(attack), torch.arange(len(scene)))[0]


def summary(scene: Scene, actions: Any) -> Line:
    """Means, with half the width of their 95 % intervals over the clips."""
    found = outcome(scene, actions)
    wide = {f"{name}_ci": float(1.96 * value.std(ddof=1) / len(value) ** 0.5) for name, value in found.items()}
    return {**{name: float(value.mean()) for name, value in found.items()}, **wide, "clips": len(scene)}


def facts_of(attack: DrlClba) -> Line:
    """Means of what is known of the poisons."""
    facts = attack.facts()
    out = {name: float(value.mean()) for name, value in facts.items() if value.ndim == 1 and value.dtype.kind == "f"}
    if "distance_before" in facts:
        out["distance"] = float((facts["distance_after"] / np.maximum(facts["distance_before"], 1e-6)).mean())
    return out


Variant = Callable[[DrlClba], DrlClba]
AGENTS: dict[str, tuple[Variant, dict[str, Any]]] = {
    "ddpg": (lambda a: a, {}),
    "ddpg gamma=0.95": (lambda a: replace(a, gamma=0.95), {}),
    "ddpg one step": (lambda a: replace(a, steps=1, eta=1.0, batches=6 * a.batches), {}),
    "ddpg as specified": (lambda a: a, {"actor_lr": 3e-4, "updates": 4, "actor_every": 4}),
    "ddpg random anchors": (lambda a: replace(a, anchors="random"), {}),
    **{
        f"ddpg without {term}": (lambda a, term=term: replace(a, **{f"weight_{term}": 0.0}), {})  # type: ignore[misc]
        for term in ("label", "semantic", "audible", "last")
    },
}
"""By name: how the attack is changed, and how the training is. One step sees as many transitions as six."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["attack", "queries"])
    parser.add_argument("--data", default="fsdd", choices=list(DATA))
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--victims", nargs="+", default=list(VICTIMS))
    parser.add_argument("--searchers", nargs="+", default=[*SEARCHERS, *AGENTS], choices=[*SEARCHERS, *AGENTS])
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS), help="queries a clip of the searchers")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    settings = dict(word.split("=", 1) for word in args.settings)
    bench = Bench(args.data, settings, args.device, args.cache)
    about = {"part": args.part, "data": args.data, "settings": settings, "weights": asdict(Weights())}
    lines = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    key = lambda line: json.dumps([line[k] for k in ("part", "data", "settings", "row", "victim", "seed")])  # noqa: E731
    done = {key(line) for line in lines}
    names, victims = (args.modes, args.victims) if args.part == "attack" else (args.searchers, [None])
    for cell in ({**about, "row": row, "victim": victim, "seed": seed} for seed in args.seeds for row in names for victim in victims):
        if key(cell) in done:
            continue
        found = (
            bench.queries(cell["row"], cell["seed"], args.budgets)
            if args.part == "queries"
            else [(0, bench.rows(*(cell[k] for k in CELL)))]
        )
        for budget, line in found:
            result = {**cell, "queries": budget, **line, **provenance(args.device, " ".join(sys.argv))}
            with args.out.open("a") as out:
                out.write(json.dumps(result) + "\n")
            shown = {k: round(v, 3) for k, v in line.items() if isinstance(v, float)}
            print(f"{cell['row']:24} {cell['victim'] or budget!s:12} seed {cell['seed']}  {shown}", flush=True)


CELL = ("row", "victim", "seed")


if __name__ == "__main__":
    main()
