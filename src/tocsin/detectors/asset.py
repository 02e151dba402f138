"""ASSET: Pan et al., "ASSET: Robust Backdoor Data Detection Across a Multiplicity of Deep Learning Paradigms", USENIX Security 2023.

Train a fresh network to say nothing about clean base samples and, at the same time, to be wrong about what a scout takes for poison
among the inspected ones. On clean inspected samples the two pushes cancel; poison is driven away. `preset="paper"` is the published
procedure, `preset="fast"` ours; docs/asset.md says what differs and why, with measurements.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tocsin.data.dataset import concatenate
from tocsin.detectors.base import Findings
from tocsin.detectors.reader import VictimReader
from tocsin.errors import InputError
from tocsin.runtime import Ticker

if TYPE_CHECKING:
    from tocsin.data.dataset import Dataset
    from tocsin.detectors.asset_verdict import Seen
    from tocsin.detectors.before_tuning import Untuned
    from tocsin.detectors.fine_detail import FineDetail
    from tocsin.detectors.offset import Concentrate
    from tocsin.detectors.scout import ScoutSettings
    from tocsin.detectors.separation import Parts, SeparatorSettings
    from tocsin.detectors.victim import Victim
    from tocsin.detectors.workbench import Bench
    from tocsin.runtime import Runtime

_BY_CONTROL = ("tail", "control")


@dataclass(frozen=True)
class Asset(VictimReader):
    """ASSET: finds samples that a network can be driven away from while it is held still on clean ones."""

    name: ClassVar[str] = "asset"
    not_defined: ClassVar[Mapping[str, str]] = {}
    by_setting: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
        "self-supervised": {
            "fast": {"features": "victim", "labels": False, "scout_labels": False, "decision": "control"},
            "paper": {"labels": False},
        },
        # phi is the adapted model; the data are few, so that one pass would be a handful of steps (specification 2.9).
        "transfer": {"fast": {"features": "both", "hear_scouts": False, "fine_detail": False}, "paper": {"steps_least": 100}},
    }
    paper: ClassVar[Mapping[str, Any]] = {
        "features": "victim",
        "victim_network": "resnet18",
        "victim_epochs": 100,
        "control_share": 0.0,
        "scout": "batch",
        "scout_labels": False,
        "scout_standardised": False,
        "scout_hidden": (128, 128),
        "scout_steps": 100,
        "scout_lr": 1e-4,
        "scout_loss": "mse",
        "select": "ao",
        "network": "resnet18",
        "runs": 1,
        "cross_fit": False,
        "passes": 1.0,
        "steps_least": 1,
        "batch": 512,
        "lr": 1e-4,
        "whole_batch": False,
        "ceiling": float("inf"),
        "ask_encoder": False,
        "fine_detail": False,
        "recalibrate": 0,
        "decision": "shipped",
    }

    features: Literal["shortcut", "victim", "both"] = "shortcut"
    """What the scouts read: a shortcut network (as in Confusion Training) trained shortly on the inspected samples, or (published) the
    victim's penultimate features, or both side by side."""
    shortcut_passes: float = 2.0
    """Passes of that network over the inspected samples; what a scout needs is learned early."""
    victim_network: str | None = None
    """features=victim or both, in the supervised setting: the network that is trained for this detector; None: the one that all share."""
    victim_epochs: int | None = None
    """features=victim or both, in the supervised setting: its passes over the inspected samples; None: as many as is usual for it."""
    labels: bool = True
    """The separators are driven up the cross entropy of the given labels, and score by it; else, where there are none, by the spread of
    their outputs."""
    outputs: int = 10
    """labels=false: how many outputs the separators have, there being no classes."""
    control_share: float = 0.5
    """Share of the reserve held out as a control; the rest is the base set."""
    scout: Literal["whole", "batch"] = "whole"
    """whole: one cross-fitted scout for all samples; batch (published): a new one for each batch."""
    scout_labels: bool = True
    """The scouts read the given labels too (one-hot, times two); needs a base set with true labels."""
    scout_standardised: bool = True
    """Features are brought to the base set's mean and deviation first."""
    scout_hidden: tuple[int, ...] = (64,)
    """Hidden layers of a scout."""
    scout_steps: int = 300
    """Of the scout's optimiser."""
    scout_batch: int = 256
    """Samples of either side a step, for the whole set's scout."""
    scout_lr: float = 1e-3
    """Learning rate of the scout (Adam)."""
    scout_loss: Literal["bce", "mse"] = "bce"
    """The paper's cross entropy, or the squared error of the official code."""
    select: Literal["ao", "ao_upper", "mad", "half", "top"] = "top"
    """What the scout's logits concentrate: ao (published): adjusted outlyingness above 2, on either side; top: a fixed share."""
    share: float = 0.01
    """top: this share of the samples."""
    hear_scouts: bool = True
    """features=victim or both: what the scouts say counts too, with decision=tail in sets as large as its limit asks for (`testimony`),
    with decision=control where samples have no labels."""
    ask_encoder: bool = True
    """Setting transfer, decision=tail or control: how well labels fit what the encoder saw before it was tuned is asked too
    (`before_tuning`)."""
    fine_detail: bool = True
    """Pictures, decision=tail, and a control as large as `fine_detail` asks for: what a warp or a blur does to fine detail is looked for by
    networks that see nothing else."""
    network: str = "shortcut"
    """The separator: shortcut, as in Confusion Training (for tables a narrow MLP), or one of `tocsin train`'s networks."""
    runs: int = 2
    """Separators are trained so many times; a class is named if it stands out in two of them."""
    cross_fit: bool = True
    """A sample is scored only by a separator that was not trained on it, as the control is."""
    passes: float = 2.0
    """Of a separator over its samples."""
    steps_least: int = 120
    """But at least this many steps."""
    batch: int = 256
    """Samples of a min step and of a max step."""
    lr: float = 1e-3
    """Learning rate of both (Adam)."""
    whole_batch: bool = True
    """Batch norm of the max step sees the whole batch; else the concentrated samples alone (published)."""
    least: int = 2
    """A max step is left out where fewer samples are concentrated."""
    ceiling: float = 50.0
    """... or where their mean loss is above this already."""
    recalibrate: int = 4000
    """Inspected samples that batch norm's statistics are taken from again before scoring; 0: they stay as training left them."""
    decision: Literal["tail", "control", "scale-free", "intended", "shipped"] = "tail"
    """tail (ours, as in Confusion Training): classes whose tails stand out from the others'; control (ours, for few classes or none): those
    that hold more high scores than their held-out reserve; else a threshold from the lower half of the scores."""
    eps: float = 1e-6
    """Density at which the lower half's Gaussian ends."""
    alpha: float = 0.01
    """tail, control: bound on the chance of naming any class of a clean data set."""

    def __post_init__(self) -> None:
        if self.runs < 1 or self.batch < 2 or self.least < 1 or not 0 < self.share < 1 or not 0 <= self.control_share <= 0.9:
            raise InputError(
                f"runs {self.runs}, batch {self.batch}, least {self.least}, share {self.share}, control_share {self.control_share}: "
                "allowed are runs and least from 1, a batch from 2, a share between 0 and 1, and a control_share of 0 to 0.9"
            )
        if self.features != "victim" and self.network != "shortcut":
            raise InputError(f"features: {self.features} needs network=shortcut too, got {self.network}; or set features=victim")
        if self.decision in _BY_CONTROL and self.control_share == 0:
            raise InputError(f"control_share: decision={self.decision} measures by held-out reserve samples; give it a share above 0")
        if self.decision == "control" and not self.cross_fit:
            raise InputError("decision: control compares samples that no separator was trained on; it needs cross_fit")
        if not self.labels and (self.features != "victim" or self.scout_labels or self.decision == "tail" or self.outputs < 2):
            raise InputError(
                "labels: without them allowed are features=victim, scout_labels=false, a decision other than tail, and two outputs or "
                f"more; got {self.features}, {self.scout_labels}, {self.decision} and {self.outputs}"
            )

    @property
    def asks_network(self) -> bool:
        return self.features != "shortcut"

    @property
    def own_network(self) -> bool:
        return self.asks_network and (self.victim_network is not None or self.victim_epochs is not None)

    def own_victim(self, train: Dataset, reserve: Dataset, runtime: Runtime) -> Victim:
        from tocsin.detectors.victim import Victim

        if not self.asks_network:
            return Victim.untrained(train, reserve, runtime)
        return Victim.trained(train, reserve, runtime, network=self.victim_network, epochs=self.victim_epochs)

    def judge(self, victim: Victim) -> Findings:
        import torch

        from tocsin.detectors.asset_verdict import Seen, decided
        from tocsin.detectors.separation import Parts, separate
        from tocsin.detectors.workbench import Bench

        began, train, reserve, runtime = time.monotonic(), victim.train, victim.reserve, victim.runtime
        n = len(train)
        held = self._held_out(reserve, runtime.seed)
        joined = concatenate(train, reserve)
        device = runtime.torch_device()
        bench = Bench.of(joined.inputs, joined.labels, train, device, branch=self.network == "shortcut")
        bench = bench if self.labels else replace(bench, classes=self.outputs)
        groups = bench.kind.duplicates(train.inputs, train.labels, device)
        parts = Parts(groups, torch.from_numpy(n + np.flatnonzero(~held)), n + np.flatnonzero(held))
        prepared = time.monotonic()
        scores, logits, history, scouting = [], [], [], 0.0
        for run in range(self.runs):  # each with scouts of its own: what one of them takes for poison by chance, the next does not
            scout_began = time.monotonic()
            read = self._read(victim, bench, parts, run)
            concentrate, told, worth = self._concentrated(read, parts, runtime, run)
            logits += [told] if told is not None else []
            scouting += time.monotonic() - scout_began
            values, folds = separate(bench, parts, concentrate, self._separators, run, runtime)
            scores.append(values)
            history.append({"folds": [asdict(fold) for fold in folds], **worth})
        separated = time.monotonic()
        seen = Seen(train, reserve, held, scores, logits, bench, parts, runtime)
        seen.detail = self._fine_detail(seen)
        seen.untuned = self._untuned(victim, parts)
        detailed = time.monotonic()
        verdict, best = decided(self, seen)
        now = time.monotonic()
        return Findings(
            detector=self.name,
            preset=self.preset_name,
            scores=best[:n],
            flagged=verdict.flagged,
            classes=verdict.classes,
            confidence=verdict.confidence,
            threshold=verdict.threshold,
            control=best[n:],
            evidence={
                "settings": {k: str(v) if v == float("inf") else v for k, v in asdict(self).items()},
                "base": len(parts.base),
                "runs": history,
                **verdict.evidence,
            },
            timings={
                "preparing": prepared - began,
                "scouting": scouting,
                "separating": separated - prepared - scouting,
                **({"fine detail": detailed - separated} if seen.detail is not None else {}),
                "deciding": now - detailed,
                "total": now - began,
            },
        )

    def _held_out(self, reserve: Dataset, seed: int) -> np.ndarray:
        """(M,) bool: the control; the other reserve samples are the base set. Raises `InputError` where there are too few."""
        from tocsin.detectors.ct import hold_out

        held = hold_out(reserve.labels, len(reserve.classes), self.control_share, seed)
        if (~held).sum() < 2 or (self.decision in _BY_CONTROL and not held.any()):
            raise InputError(
                f"reserve: got {len(reserve)} samples; ASSET needs more: "
                f"{self.control_share:.0%} of each class are held out as a control, the rest is the base set"
            )
        return held

    @property
    def _scouts(self) -> ScoutSettings:
        from tocsin.detectors.scout import ScoutSettings

        return ScoutSettings(self.scout_hidden, self.scout_steps, self.scout_lr, self.scout_loss, self.scout_batch)

    @property
    def _separators(self) -> SeparatorSettings:
        from tocsin.detectors.offset import OffsetSettings
        from tocsin.detectors.separation import SeparatorSettings

        loop = OffsetSettings(
            passes=self.passes,
            least_steps=self.steps_least,
            batch=self.batch,
            lr=self.lr,
            labelled=self.labels,
            whole_batch=self.whole_batch,
            least=self.least,
            ceiling=self.ceiling,
        )
        return SeparatorSettings(self.network, self.runs, self.cross_fit, self.recalibrate, loop)

    def _read(self, victim: Victim, bench: Bench, parts: Parts, run: int) -> np.ndarray:
        """(N + M, D) float32: what scouts read of inspected and reserve samples."""
        from tocsin.detectors.scout import beside_labels, standardised

        read = [] if self.features == "victim" else [self._shortcut(bench, parts.inspected, victim.runtime, run)]
        if self.features != "shortcut":
            read.append(np.concatenate([victim.features, victim.reserve_features]))
        both = np.concatenate(read, axis=1)
        if not np.isfinite(both).all():
            raise InputError(f"features: {int((~np.isfinite(both)).any(1).sum())} of {len(both)} rows hold NaN or infinity")
        if self.scout_standardised:
            both = standardised(both, both[parts.base.numpy()])
        if self.scout_labels:
            both = beside_labels(both, bench)
        return both

    def _shortcut(self, bench: Bench, n: int, runtime: Runtime, run: int) -> np.ndarray:
        """Features of a network greedy for shortcuts, trained on the inspected samples alone."""
        from tocsin.detectors.scout import shortcut_features

        seed = int(np.random.SeedSequence([runtime.seed, 0xA6, run]).generate_state(1)[0])
        return shortcut_features(bench, n, self.shortcut_passes, seed, runtime, "ASSET: learning what there is")

    def _concentrated(
        self, read: np.ndarray, parts: Parts, runtime: Runtime, run: int
    ) -> tuple[Concentrate, np.ndarray | None, dict[str, Any]]:
        """(what the scouts that see ``read`` take for poison; their logits (n + control,), or None of scouts of a batch each; what is worth
        telling)."""
        from tocsin.detectors.scout import whole_set
        from tocsin.detectors.separation import by_batch, halves, looked_up
        from tocsin.stats.outlyingness import select

        n, device = parts.inspected, runtime.torch_device()
        if self.scout == "batch":
            return by_batch(read, self._scouts, self.select, self.share, device), None, {}
        fold = np.random.default_rng([runtime.seed, 0x5C, run]).integers(0, 5, n)[parts.groups]
        seed = int(np.random.SeedSequence([runtime.seed, 0x5C, run]).generate_state(1)[0])
        # A separator's scouts see no sample that it scores: else it is driven away from what looks like clean samples that they learned by
        # heart, and finds these, which no control sample shares (docs/asset.md).
        # And there each control sample is told of by one scout, as each inspected one is: what they say is compared (`by_control`).
        alike = self.decision == "control"
        apart = halves(parts, 2, runtime.seed, run) if alike else np.zeros(n + len(parts.control), np.int64)
        told_by = np.random.default_rng([runtime.seed, 0x5C, run, 1]).permutation(len(parts.control)) % 5 if alike else None
        ticker = Ticker(runtime, "ASSET: scouting", len(np.unique(fold)) * len(np.unique(apart)))
        logits, chosen, base = np.zeros(n, np.float32), np.zeros(n, bool), read[parts.base.numpy()]
        aside = np.zeros(len(parts.control), np.float32)
        for half in np.unique(apart).tolist():
            rows, theirs = np.flatnonzero(apart[:n] == half), apart[n:] == half
            logits[rows], told = whole_set(
                read[rows], base, read[parts.control], fold[rows], self._scouts, seed + half, device, ticker, told_by
            )
            aside[theirs] = told[theirs]
            chosen[rows] = select(logits[rows], self.select, share=self.share)
        highest = np.argsort(-logits, kind="stable")[:20]
        return looked_up(chosen), np.concatenate([logits, aside]), {"concentrated": int(chosen.sum()), "scout's highest": highest.tolist()}

    def _untuned(self, victim: Victim, parts: Parts) -> Untuned | None:
        """What an encoder made of the samples before it was tuned to them, where there is one and it is asked."""
        from tocsin.detectors.before_tuning import Untuned

        if not self.ask_encoder or self.decision not in _BY_CONTROL or victim.untuned_features is None:
            return None
        labels, names = np.concatenate([victim.train.labels, victim.reserve.labels]), victim.train.classes
        return Untuned(victim.untuned_features, labels, names, parts.groups, (parts.base.numpy(), parts.control), victim.runtime.seed)

    def _fine_detail(self, seen: Seen) -> FineDetail | None:
        """What scouts say of the samples as texture, where that is asked for and can be told."""
        from tocsin.detectors.fine_detail import DISTINCT, FineDetail
        from tocsin.detectors.workbench import Bench
        from tocsin.stats.texture import LEAST_SIDE

        train, reserve, kind = seen.train, seen.reserve, seen.bench.kind
        if not (self.fine_detail and self.decision == "tail" and kind.textured and min(train.inputs.shape[1:3]) >= LEAST_SIDE):
            return None
        if np.median(seen.distinct) < DISTINCT:
            return None
        joined = concatenate(train, reserve)
        textures = Bench.in_texture(joined.inputs, joined.labels, train, seen.bench.device)
        return FineDetail.scouted(textures, seen.parts, seen.labels, seen.distinct, self._scouts, seen.runtime)
