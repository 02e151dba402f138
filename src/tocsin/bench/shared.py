"""What cells share, each made once and kept as npz without pickle: poisoned sets, trained networks, features, gates.

A file's name is a hash of all that went into it. Whoever wants one takes its lock; the first makes it, the others wait and read.
The lock is the operating system's and falls with the process that holds it; a file appears whole, by a rename.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from tocsin.attacks import Attack, NoAttack, Poisoned
from tocsin.bench.choices import VictimChoice, digest
from tocsin.bench.splits import Split
from tocsin.data.dataset import Dataset
from tocsin.data.npz import write_arrays
from tocsin.detectors.victim import Victim
from tocsin.kinds import Kind, kind_of
from tocsin.learning import fit
from tocsin.networks import Classifier, build_network
from tocsin.poisoning import poison
from tocsin.runtime import Runtime
from tocsin.victim import Trial, measure

LEAST_GAIN = 0.5
"""An attack works where its ASR is at least this far above the ASR of the same trigger on a clean network."""


@dataclass(frozen=True, eq=False)
class Planted:
    """A poisoned training set and the attack's trial on the test set."""

    key: str
    poisoned: Poisoned
    trial: Trial | None
    """None where nothing was planted."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A network and what it was trained on."""

    key: str
    network: Classifier
    kind: Kind
    seconds: float
    """Of the training."""


@dataclass(frozen=True)
class Shared:
    """The folder of shared files, and everything that is made through it."""

    folder: Path
    runtime: Runtime

    def poisoned(self, split: Split, attack: Attack, seed: int) -> Planted:
        """``split.train`` poisoned by ``attack``, and the test samples with the trigger. Raises `InputError`."""
        key = digest(["poisoned", split.fingerprint, attack.recipe(), seed])

        def make() -> dict[str, np.ndarray]:
            made = poison(split.train, attack, seed, self.runtime)
            changed = np.flatnonzero((made.dataset.inputs != split.train.inputs).reshape(len(split.train), -1).any(axis=1))
            arrays = {"rows": changed, "inputs": made.dataset.inputs[changed], "labels": made.dataset.labels}
            arrays |= {"planted": made.planted, "covers": made.covers, "recipe": np.array(json.dumps(made.recipe))}
            if len(made.planted):
                # Triggered here, where an attack that had to learn its trigger has just done so, and never again.
                trial = Trial.of(made.attack, split.test)
                arrays |= {"trial_rows": trial.rows, "trial_inputs": trial.inputs, "trial_goal": trial.goal}
            return arrays

        stored = self._once(f"poisoned-{key}", make)
        inputs = np.array(split.train.inputs)
        inputs[stored["rows"]] = stored["inputs"]
        dataset = replace(split.train, inputs=inputs, labels=stored["labels"])
        trial = Trial(stored["trial_rows"], stored["trial_inputs"], stored["trial_goal"]) if "trial_rows" in stored else None
        found = Poisoned(dataset, stored["planted"], stored["covers"], json.loads(str(stored["recipe"])), attack)
        return Planted(key, found, trial)

    def trained(self, planted: Planted, victim: VictimChoice, seed: int) -> Trained:
        """The ordinary network trained on ``planted``."""
        train = planted.poisoned.dataset
        key = digest(["network", planted.key, victim.described, seed])
        kind = kind_of(train, flip=victim.flip)
        runtime = replace(self.runtime, seed=seed)

        def make() -> dict[str, np.ndarray]:
            began = time.perf_counter()
            network = _fresh(victim, train, kind, seed)
            fit(network, train.inputs, train.labels, kind, victim.on(kind)[1], runtime, stage="training the victim")
            weights = {f"weight.{name}": value.cpu().numpy() for name, value in network.state_dict().items()}
            return {**weights, "seconds": np.array(time.perf_counter() - began)}

        stored = self._once(f"network-{key}", make)
        network = _fresh(victim, train, kind, seed)
        network.load_state_dict({n.removeprefix("weight."): torch.from_numpy(v) for n, v in stored.items() if n.startswith("weight.")})
        return Trained(key, network.to(runtime.torch_device()).eval(), kind, float(stored["seconds"]))

    def gate(self, split: Split, planted: Planted, victim: VictimChoice, seed: int) -> dict[str, Any]:
        """Whether the attack works without any defence: ACC and ASR of the victim, and of the same network on clean data."""
        name = digest(["gate", planted.key, victim.described, seed])

        def make() -> dict[str, Any]:
            attacked = self.trained(planted, victim, seed)
            control = self.trained(self.poisoned(split, NoAttack(), seed), victim, seed)
            mine, clean = (measure(t.network, split.test, t.kind, self.runtime, planted.trial) for t in (attacked, control))
            works = None if mine.asr is None or clean.asr is None else mine.asr - clean.asr >= LEAST_GAIN
            return {
                **asdict(mine),
                "control_asr": clean.asr,
                "control_acc": clean.acc,
                "works": works,
                "training_seconds": attacked.seconds,
            }

        return self._once_json(f"gate-{name}", make)

    def read(self, split: Split, planted: Planted, victim: VictimChoice, seed: int) -> Victim:
        """The `Victim` that passive detectors read, its features included."""
        trained = self.trained(planted, victim, seed)
        runtime = replace(self.runtime, seed=seed)
        found = Victim(planted.poisoned.dataset, split.reserve, trained.network, trained.kind, runtime)
        key = digest(["features", trained.key, split.reserve.fingerprint])
        stored = self._once(f"features-{key}", lambda: {"train": found.features, "reserve": found.reserve_features})
        return found.holding(stored["train"], stored["reserve"])

    def retrained(self, split: Split, planted: Planted, victim: VictimChoice, seed: int, flagged: np.ndarray) -> dict[str, Any]:
        """ACC and ASR of a network trained on what is kept, ``~flagged`` (N,); both None where that is less than two samples."""
        if not flagged.any():  # the same samples give the same network
            gate = self.gate(split, planted, victim, seed)
            return {"samples": len(flagged), "acc": gate["acc"], "asr": gate["asr"]}
        name = digest(["retrained", planted.key, victim.described, seed, np.packbits(flagged).tobytes().hex()])
        kept = planted.poisoned.dataset[~flagged]
        runtime = replace(self.runtime, seed=seed)

        def make() -> dict[str, Any]:
            if len(kept) < 2:
                return {"samples": len(kept), "acc": None, "asr": None}
            kind = kind_of(kept, flip=victim.flip)
            network = _fresh(victim, kept, kind, seed)
            fit(network, kept.inputs, kept.labels, kind, victim.on(kind)[1], runtime, stage="training again")
            result = measure(network, split.test, kind, runtime, planted.trial)
            return {"samples": len(kept), "acc": result.acc, "asr": result.asr}

        return self._once_json(f"retrained-{name}", make)

    def _once_json(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(str(self._once(name, lambda: {"json": np.array(json.dumps(make()))})["json"]))
        return found

    def _once(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays in ``name``.npz; made first where there is no such file, by one process while the others wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.npz"
        if not path.exists():
            with FileLock(f"{path}.lock"):
                if not path.exists():
                    write_arrays(path, make())
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)


def _fresh(victim: VictimChoice, train: Dataset, kind: Kind, seed: int) -> Classifier:
    return build_network(victim.on(kind)[0], kind.channels, len(train.classes), seed)
