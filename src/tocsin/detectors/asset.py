"""ASSET: Pan et al., "ASSET: Robust Backdoor Data Detection Across a Multiplicity of Deep Learning Paradigms", USENIX Security 2023.

Train a fresh network to say nothing about clean base samples and, at the same time, to be wrong about what a scout takes for poison
among the inspected ones. On clean inspected samples the two pushes cancel; poison is driven away. `preset="paper"` is the published
procedure, `preset="fast"` ours; docs/asset.md says what differs and why, with measurements.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tocsin.data.dataset import concatenate
from tocsin.detectors.base import Findings, class_evidence
from tocsin.detectors.reader import VictimReader
from tocsin.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from tocsin.data.dataset import Dataset
    from tocsin.detectors.confusion import Bench
    from tocsin.detectors.decide import Verdict
    from tocsin.detectors.offset import OffsetSettings
    from tocsin.detectors.victim import Victim
    from tocsin.runtime import Runtime

_NULL_SCALE = 0.8
"""Scale of the gap's law on clean data: wider than Confusion Training's, since small sets give small concentrations (docs/asset.md)."""


@dataclass(frozen=True)
class Asset(VictimReader):
    """ASSET: finds samples that a network can be driven away from while it is held still on clean ones."""

    name: ClassVar[str] = "asset"
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
        "recalibrate": 0,
        "decision": "shipped",
    }

    features: Literal["shortcut", "victim"] = "shortcut"
    """What the scouts read: a shortcut network (as in Confusion Training) trained shortly on the inspected samples, or (published) the
    victim's penultimate features."""
    shortcut_passes: float = 2.0
    """Passes of that network over the inspected samples; what a scout needs is learned early."""
    victim_network: str = "small"
    """features=victim: the network, where the audit has not trained one yet."""
    victim_epochs: int = 8
    """features=victim: its passes over the inspected samples."""
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
    network: str = "shortcut"
    """The separator: shortcut, as in Confusion Training, or one of `tocsin train`'s networks."""
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
    decision: Literal["tail", "scale-free", "intended", "shipped"] = "tail"
    """tail (ours, as in Confusion Training): classes whose tails stand out; else a threshold from the lower half of the scores."""
    eps: float = 1e-6
    """Density at which the lower half's Gaussian ends."""
    alpha: float = 0.01
    """tail: bound on the chance of naming any class of a clean data set."""

    def __post_init__(self) -> None:
        if self.runs < 1 or self.batch < 2 or self.least < 1 or not 0 < self.share < 1 or not 0 <= self.control_share <= 0.9:
            raise InputError(
                f"runs {self.runs}, batch {self.batch}, least {self.least}, share {self.share}, control_share {self.control_share}: "
                "allowed are runs and least from 1, a batch from 2, a share between 0 and 1, and a control_share of 0 to 0.9"
            )
        if self.features == "shortcut" and self.network != "shortcut":
            raise InputError(f"features: shortcut needs network=shortcut too, got {self.network}; or set features=victim")
        if self.decision == "tail" and self.control_share == 0:
            raise InputError("control_share: decision=tail measures classes by held-out reserve samples; give it a share above 0")

    @property
    def asks_network(self) -> bool:
        return self.features == "victim"

    def own_victim(self, train: Dataset, reserve: Dataset, runtime: Runtime) -> Victim:
        from tocsin.detectors.victim import Victim
        from tocsin.learning import FitSettings

        if not self.asks_network:
            return Victim.untrained(train, reserve, runtime)
        return Victim.trained(train, reserve, runtime, network=self.victim_network, settings=FitSettings(epochs=self.victim_epochs))

    def judge(self, victim: Victim) -> Findings:
        import torch

        from tocsin.detectors.confusion import Bench
        from tocsin.detectors.ct import hold_out
        from tocsin.stats.duplicates import near_duplicates

        began, train, reserve, runtime = time.monotonic(), victim.train, victim.reserve, victim.runtime
        n, classes = len(train), len(train.classes)
        held = hold_out(reserve.labels, classes, self.control_share, runtime.seed)
        if (~held).sum() < 2 or (self.decision == "tail" and not held.any()):
            raise InputError(
                f"reserve: got {len(reserve)} samples; ASSET needs more: "
                f"{self.control_share:.0%} of each class are held out as a control, the rest is the base set"
            )
        joined = concatenate(train, reserve)
        device = runtime.torch_device()
        bench = Bench.of(joined.inputs, joined.labels, train, device, branch=self.network == "shortcut")
        groups = near_duplicates(train.inputs, train.labels, device, bench.kind.maps)
        work = _Work(self, bench, n, groups, torch.from_numpy(n + np.flatnonzero(~held)), n + np.flatnonzero(held), runtime)
        prepared = time.monotonic()
        scores, history, scouting = [], [], 0.0
        for run in range(self.runs):  # each with scouts of its own: what one of them takes for poison by chance, the next does not
            scout_began = time.monotonic()
            read = self._read(victim, bench, run)
            scout, chosen = self._scout(read, n, held, groups, runtime, run)
            scouting += time.monotonic() - scout_began
            values, done = work.separate(run, chosen, read)
            scores.append(values)
            highest = [int(i) for i in np.argsort(-scout, kind="stable")[:20]] if scout is not None else []
            history.append({**done, "concentrated": None if chosen is None else int(chosen.sum()), "scout's highest": highest})
        separated = time.monotonic()
        repeats = near_duplicates(reserve.inputs, reserve.labels, device, bench.kind.maps)
        verdict, best, control = self._decide(train, scores, work.control - n, reserve, repeats)
        now = time.monotonic()
        return Findings(
            detector=self.name,
            preset=self.preset_name,
            scores=best,
            flagged=verdict.flagged,
            classes=verdict.classes,
            confidence=verdict.confidence,
            threshold=verdict.threshold,
            control=control,
            evidence={
                "settings": {k: str(v) if v == float("inf") else v for k, v in asdict(self).items()},
                "base": len(work.base),
                "runs": history,
                **verdict.evidence,
            },
            timings={
                "preparing": prepared - began,
                "scouting": scouting,
                "separating": separated - prepared - scouting,
                "deciding": now - separated,
                "total": now - began,
            },
        )

    def _read(self, victim: Victim, bench: Bench, run: int) -> np.ndarray:
        """(N + M, D) float32: what scouts read of inspected and reserve samples."""
        from tocsin.detectors.scout import standardised

        n = len(victim.train)
        both = (
            self._shortcut(bench, n, victim.runtime, run)
            if self.features == "shortcut"
            else np.concatenate([victim.features, victim.reserve_features])
        )
        if not np.isfinite(both).all():
            raise InputError(f"features: {int((~np.isfinite(both)).any(1).sum())} of {len(both)} rows hold NaN or infinity")
        if self.scout_standardised:
            both = standardised(both, both[n:])
        if self.scout_labels:
            both = np.concatenate([both, 2 * np.eye(bench.classes, dtype=np.float32)[bench.labels.cpu().numpy()]], axis=1)
        return both

    def _shortcut(self, bench: Bench, n: int, runtime: Runtime, run: int) -> np.ndarray:
        """Features of a network greedy for shortcuts, trained on the inspected samples alone."""
        import torch

        from tocsin.detectors.confusion import RoundSettings, penultimate, pretrain

        steps = max(150, round(self.shortcut_passes * n / 128))
        how = RoundSettings.pretraining(steps, lr=0.1, batch=128)
        own = int(np.random.SeedSequence([runtime.seed, 0xA6, run]).generate_state(1)[0])
        network, done = bench.network("shortcut", 1.0, own), 0

        def tick() -> None:
            nonlocal done
            done += 1
            if done % 10 == 0 or done == steps:
                runtime.progress("ASSET: learning what there is", done / steps)

        pretrain(network, bench, torch.arange(n), torch.empty(0, dtype=torch.long), how, torch.Generator().manual_seed(own), tick)
        return penultimate(network, bench, len(bench.labels))

    def _scout(
        self, read: np.ndarray, n: int, held: np.ndarray, groups: np.ndarray, runtime: Runtime, run: int
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(logits (N,), what they concentrate (N,) bool); None where each batch has a scout of its own."""
        from tocsin.detectors.scout import ScoutSettings, whole_set
        from tocsin.stats.outlyingness import select

        if self.scout == "batch":
            return None, None
        fold = np.random.default_rng([runtime.seed, 0x5C, run]).integers(0, 5, n)[groups]
        how = ScoutSettings(self.scout_hidden, self.scout_steps, self.scout_lr, self.scout_loss, self.scout_batch)
        base, control = read[n:][~held], read[n:][held]
        seed = int(np.random.SeedSequence([runtime.seed, 0x5C, run]).generate_state(1)[0])
        seen = whole_set(read[:n], base, control, fold, how, seed, runtime.torch_device(), lambda f: runtime.progress("ASSET: scouting", f))
        return seen[0], select(seen[0], self.select, share=self.share)

    def _decide(
        self, train: Dataset, scores: list[np.ndarray], held: np.ndarray, reserve: Dataset, repeats: np.ndarray
    ) -> tuple[Verdict, np.ndarray, np.ndarray]:
        """(verdict, scores (N,), control): ``scores`` of the inspected, then of the held-out reserve samples, one array a run."""
        from tocsin.detectors.decide import Scored, Verdict, tail
        from tocsin.detectors.sharpen import by_class, count_distinct
        from tocsin.stats.outlyingness import lower_half_threshold

        n, names = len(train), train.classes
        if self.decision == "tail":
            labels = np.concatenate([train.labels, reserve.labels[held]])
            distinct = count_distinct(repeats[held], reserve.labels[held], len(names))
            views = {f"run {r + 1}": by_class(values, labels, n, distinct).astype(np.float32) for r, values in enumerate(scores)}
            rounds = [{name: view[:n]} for name, view in views.items()]
            verdict = tail(Scored(rounds, train.labels, names, np.zeros(n, bool), None, self.alpha, _NULL_SCALE))
            best = views[verdict.view or "run 1"]
            return verdict, best[:n], best[n:]
        mean = np.mean(scores, axis=0).astype(np.float32)
        limit = lower_half_threshold(mean[:n], self.decision, self.eps)
        flagged = mean[:n] > limit
        share = np.bincount(train.labels[flagged], minlength=len(names)) / np.maximum(train.class_counts, 1)
        classes = class_evidence(names, train.labels, flagged, share, np.ones(len(names)), share > 0)  # the published rule names none
        return Verdict(flagged, classes, 0.5, limit), mean[:n], mean[n:]


@dataclass(frozen=True)
class _Work:
    """What every separator of one audit is trained with."""

    how: Asset
    bench: Bench
    n: int
    groups: np.ndarray
    base: Tensor
    control: np.ndarray
    runtime: Runtime

    def separate(self, run: int, chosen: np.ndarray | None, read: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """(scores (N + held out,), what happened). ``chosen``: what is concentrated; else scouts of single batches look at ``read``."""
        import torch

        how, seed = self.how, self.runtime.seed
        rng = np.random.default_rng([seed, 0xA5, run])
        folds = 2 if how.cross_fit else 1
        mine = rng.integers(0, 2, self.n)[self.groups] if how.cross_fit else np.zeros(self.n, np.int64)
        theirs = rng.permutation(len(self.control)) % folds
        out, history = np.zeros(self.n + len(self.control), np.float32), []
        for f in range(folds):
            rows = torch.from_numpy(np.flatnonzero(mine == f))
            if len(rows) < 2:
                raise InputError(f"training set: got {self.n} samples, ASSET needs more")
            own = int(np.random.SeedSequence([seed, 0xA5, run, f]).generate_state(1)[0])
            network = self.bench.network(how.network, 1.0, own)
            generator = torch.Generator().manual_seed(own)
            stage = f"ASSET: run {run * folds + f + 1} of {how.runs * folds}"
            seen, unseen = (mine != f, theirs != f) if how.cross_fit else (mine == f, theirs == f)
            places = np.concatenate([np.flatnonzero(seen), self.n + np.flatnonzero(unseen)])
            told = torch.from_numpy(np.concatenate([np.flatnonzero(seen), self.control[unseen]]))
            history.append(self._train_and_score(network, rows, told, places, out, chosen, read, generator, stage))
        return out, {"folds": history}

    def _train_and_score(
        self,
        network: Any,
        rows: Tensor,
        told: Tensor,
        places: np.ndarray,
        out: np.ndarray,
        chosen: np.ndarray | None,
        read: np.ndarray,
        generator: Any,
        stage: str,
    ) -> dict[str, Any]:
        """Trains one separator on ``rows`` and writes its scores of the rows ``told`` to ``out`` at ``places``."""
        from tocsin.detectors.offset import _SCORE_BATCH, offset, offset_steps, recalibrate, score

        how, settings = self.how, self._settings()
        total = offset_steps(len(rows), settings) + -(-len(told) // _SCORE_BATCH)
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            if done % 10 == 0 or done == total:
                self.runtime.progress(stage, done / total)

        concentrate = _looked_up(chosen) if chosen is not None else _scouted(how, read, self.bench.device, generator)
        history = offset(network, self.bench, rows, self.base, concentrate, settings, generator, tick)
        if how.recalibrate:
            import torch

            recalibrate(network, self.bench, rows[torch.randperm(len(rows), generator=generator)[: how.recalibrate]])
        out[places] = score(network, self.bench, told, settings.labelled, tick)
        return asdict(history)

    def _settings(self) -> OffsetSettings:
        from tocsin.detectors.offset import OffsetSettings

        how = self.how
        return OffsetSettings(how.passes, how.steps_least, how.batch, how.lr, True, how.whole_batch, how.least, how.ceiling)


def _looked_up(chosen: np.ndarray) -> Any:
    import torch

    mask = torch.from_numpy(chosen)
    return lambda ours, theirs: mask[ours]


def _scouted(how: Asset, read: np.ndarray, device: Any, generator: Any) -> Any:
    """The published concentration: a scout of each batch's own."""
    import torch

    from tocsin.detectors.scout import ScoutSettings, of_batch
    from tocsin.stats.outlyingness import select

    table = torch.from_numpy(read).to(device)
    settings = ScoutSettings(how.scout_hidden, how.scout_steps, how.scout_lr, how.scout_loss, how.scout_batch)

    def concentrate(ours: Tensor, theirs: Tensor) -> Tensor:
        logits = of_batch(table[ours.to(device)], table[theirs.to(device)], settings, generator)
        values = 1 / (1 + np.exp(-logits)) if how.select == "ao" else logits  # the published rule reads the sigmoid
        return torch.from_numpy(select(values, how.select, share=how.share))

    return concentrate
