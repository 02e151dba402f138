"""Steganalyser: a network that has learned what marked speech is like, from marks that the auditor makes (drl-clba-speech 5.3, item 7).

The reserve, which is known to be clean, is marked by the auditor's own embedders with keys drawn afresh for each clip (`embedders`). A
small network learns to tell marked from clean by how far a clip is from reserve clips of the same word, and speaker where known: speakers
differ by more than a mark does. No inspected clip is trained on, and no trained victim is read. docs/audio-stego.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.audio_stego import Heard, sum_excess
from tocsin.detectors.base import Detector, Findings, class_evidence, found_beside, preset_of
from tocsin.detectors.feature import confidence
from tocsin.errors import InputError
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    import torch

    from tocsin.detectors.profiles import Ruler, Traces
    from tocsin.kinds.speech import SpeechKind
    from tocsin.networks.steganalyser import Steganalyser as Network

_NAMES = ("per-bin", "mel-gain", "waveform", "smooth")
_RULERS = 5
"""Training clips are measured by as many rulers, each made of clips of the other parts."""
_DECAY = 0.1


@dataclass(frozen=True)
class Steganalyser(Detector):
    """A network trained on the auditor's own marks says which clips are marked; flags in classes that have more than their reserve."""

    name: ClassVar[str] = "steganalyser"
    kinds: ClassVar[frozenset[str]] = frozenset({"speech"})

    preset_name: str = "fast"
    """The preset the settings started from; for the report only."""
    families: tuple[str, ...] = _NAMES
    """Embedders that the network is trained on: of per-bin, mel-gain, waveform, smooth."""
    references: int = 2
    """Reserve clips that each clip is held against; 0: none, the clip is judged by itself."""
    folds: int = 5
    """Networks; each judges its own part of the reserve and of the inspected clips, and is trained on the rest of the reserve."""
    copies: int = 2
    """Of each reserve clip, as many copies are marked by each family; each has a key of its own."""
    shrink: float = 0.3
    """Share of the diagonal in the covariances that distances from the references are measured by."""
    steps: int = 250
    """Steps that each network is trained for."""
    batch: int = 64
    """Clean clips a step, and as many marked ones."""
    lr: float = 0.01
    """Highest learning rate of AdamW's one cycle."""
    share: float = 0.1
    """Clips are suspect beyond what this share of the reserve exceeds."""
    alpha: float = 0.05
    """Largest p-value of a class that is named; meant as a bound on naming any class of clean data, and not quite kept (docs)."""

    def __post_init__(self) -> None:
        wrong = [name for name in self.families if name not in _NAMES]
        if wrong or not self.families:
            raise InputError(f"families: got {', '.join(wrong) or 'none'}; allowed are some of {', '.join(_NAMES)}")
        if self.references < 0 or self.folds < 2 or min(self.copies, self.steps) < 1 or self.batch < 2:
            raise InputError(
                f"references {self.references}, folds {self.folds}, copies {self.copies}, steps {self.steps}, batch {self.batch}: "
                "allowed are references from 0, folds and batch from 2, copies and steps from 1"
            )
        if not (0 < self.alpha < 1 and 0 <= self.shrink <= 1 and 0 < self.share <= 0.5 and 0 < self.lr < float("inf")):
            raise InputError(
                f"alpha {self.alpha}, shrink {self.shrink}, share {self.share}, lr {self.lr}: "
                "allowed are an alpha between 0 and 1, a shrink from 0 to 1, a share up to 0.5 and an lr above 0"
            )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Steganalyser:
        """The settings called ``name`` (see `PRESETS`), with ``changes``. Raises `InputError` for an unknown one."""
        return preset_of(PRESETS, name, changes)

    def inspect(self, train: Dataset, reserve: Dataset, runtime: Runtime, *, canaries: np.ndarray | None = None) -> Findings:
        """As `Detector.inspect`. Networks see no inspected clip in training, so canaries change no score; what is asked of a class is asked
        without them, and again beside each kind. Raises `InputError` without a sampling rate, or for a reserve that cannot be divided."""
        began = time.monotonic()
        scores, control = self.scored(train, reserve, runtime)
        judged = time.monotonic()
        found = found_beside(lambda rows: self.decided(scores[rows], control, train[rows], reserve), canaries, len(train))
        now = time.monotonic()
        return replace(found, timings={"judging": judged - began, "deciding": now - judged, "total": now - began})

    def scored(self, train: Dataset, reserve: Dataset, runtime: Runtime) -> tuple[np.ndarray, np.ndarray]:
        """((N,), (M,)) log odds of being marked, of inspected and of reserve clips, each by a network that was not trained on the clip."""
        kind = kind_for(train)
        inspected, clean = traces_of(kind, train, reserve, runtime)
        judges = self.judges(kind, reserve, clean, runtime)
        return self.odds(judges, inspected, runtime), self.odds(judges, clean, runtime)

    def judges(self, kind: SpeechKind, reserve: Dataset, clean: Traces, runtime: Runtime) -> list[Judge]:
        """A network for each fold, trained on the other folds of the ``reserve``, whose traces are ``clean``."""
        marks = [self.marked(kind, np.array(reserve.inputs), clean, name, runtime) for name in self.families]
        out = []
        for number, held in enumerate(self.held(reserve, runtime)):
            copies = np.tile(~held, self.copies)
            out.append(self.trained(clean.part(~held), [mark.part(copies) for mark in marks], runtime, number))
        return out

    def held(self, reserve: Dataset, runtime: Runtime) -> list[np.ndarray]:
        """By network, (M,) bool: the part of the ``reserve`` that it judges and does not see in training."""
        from tocsin.detectors.audio_judges import parts

        if len(reserve) < 2 * self.folds:
            raise InputError(f"reserve: got {len(reserve)} clips, steganalyser needs {2 * self.folds} at least for {self.folds} folds")
        return list(parts(reserve.labels, self.folds, runtime.seed))

    def odds(self, judges: Sequence[Judge], those: Traces, runtime: Runtime) -> np.ndarray:
        """(n,) log odds of ``those`` clips, each by one of the ``judges``; the reserve's by the one that was not trained on it.

        Inspected clips are shared out as reserve clips are, so that a clean one is scored exactly as a reserve clip is.
        """
        from tocsin.detectors.audio_judges import parts

        out = np.zeros(len(those.labels))
        for judge, mine in zip(judges, parts(those.labels, self.folds, runtime.seed), strict=True):
            out[mine] = judge.odds(those.part(mine))
        return out

    def trained(self, clean: Traces, marks: Sequence[Traces], runtime: Runtime, number: int = 0) -> Judge:
        """A network that tells clips whose traces are ``clean`` from copies of them whose traces are among the ``marks`` (`marked`).

        Random from ``runtime.seed`` and the ``number`` of the network; progress is told as of one among `folds`.
        """
        import torch
        from torch.nn import functional as F

        from tocsin.detectors.profiles import Ruler, apart, crossed
        from tocsin.learning import descend, deterministic, one_cycle, seeded
        from tocsin.networks.steganalyser import Steganalyser as Network

        device, rng = runtime.torch_device(), np.random.default_rng([runtime.seed, number, 0x57E6])
        unmarked = apart(clean, clean, self.references, itself=True)
        crosses = [crossed(unmarked, apart(mark, clean, self.references, itself=True), _RULERS, self.shrink) for mark in marks]
        near, far = crosses[0][0], np.concatenate([mine for _, mine in crosses])
        centre, unit = far.mean(0), np.maximum(far.std(0), 1e-6)
        negative, positive = (torch.from_numpy((x - centre) / unit).to(device) for x in (near, far))
        with seeded(torch.device("cpu"), runtime.seed + number):
            network = Network(near.shape[1]).to(device).train()
        optimizer = torch.optim.AdamW(network.parameters(), self.lr, weight_decay=_DECAY)
        answers = torch.cat([torch.zeros(self.batch), torch.ones(self.batch)]).to(device)
        with deterministic(device), seeded(device, runtime.seed + number):
            for step in range(self.steps):
                rows = (torch.from_numpy(rng.integers(0, len(side), self.batch)).to(device) for side in (negative, positive))
                logits = network(torch.cat([side[row] for side, row in zip((negative, positive), rows, strict=True)]))
                optimizer.param_groups[0]["lr"] = one_cycle(step, self.steps, self.lr)
                descend(optimizer, F.binary_cross_entropy_with_logits(logits, answers))
                runtime.progress("training the steganalyser", (number + (step + 1) / self.steps) / max(self.folds, number + 1))
        return Judge(network.eval(), clean, Ruler.of(unmarked, self.shrink), centre, unit, self.references, device)

    def marked(self, kind: SpeechKind, clips: np.ndarray, clean: Traces, family: str, runtime: Runtime) -> Traces:
        """Of `copies` marked copies of all ``clips`` int16 (n, T), whose traces are ``clean``, in turn."""
        from tocsin.detectors.embedders import marked
        from tocsin.detectors.profiles import Traces, views_of

        rng = np.random.default_rng([runtime.seed, _NAMES.index(family), 0x3A])
        found = [views_of(kind, marked(clips, kind, (family,), rng), runtime, lambda _: None) for _ in range(self.copies)]
        views = tuple(np.concatenate(parts) for parts in zip(*found, strict=True))
        return Traces(views, np.tile(clean.labels, self.copies), np.tile(clean.speakers, self.copies))

    def decided(self, scores: np.ndarray, control: np.ndarray, train: Dataset, reserve: Dataset) -> Findings:
        """What ``scores`` (N,) of ``train`` say beside the ``control`` (M,), the scores of the ``reserve``: audio-stego's test of a sum."""
        labels, n = np.concatenate([train.labels, reserve.labels]), len(train)
        clean, unused = np.arange(len(labels)) >= n, np.zeros(0, np.int64)
        seen = Heard({}, labels, clean, unused, unused, len(train.classes))
        limits, p = sum_excess(seen, np.concatenate([scores, control]), self.share)
        flagged = (p <= self.alpha)[train.labels] & (scores > limits[train.labels])
        return Findings(
            detector=self.name,
            preset=self.preset_name,
            scores=scores.astype(np.float32),
            flagged=flagged,
            classes=class_evidence(train.classes, train.labels, flagged, -np.log10(np.maximum(p, 1e-300)), p, p <= self.alpha),
            confidence=confidence(p, bool(flagged.any())),
            control=control.astype(np.float32),
            evidence={"settings": asdict(self), "p": {name: float(value) for name, value in zip(train.classes, p, strict=True)}},
        )


@dataclass(frozen=True)
class Judge:
    """A trained network, and what it measures clips by."""

    network: Network
    clean: Traces
    """The clips it was trained on; those it holds others against are of them."""
    ruler: Ruler
    centre: np.ndarray
    unit: np.ndarray
    references: int
    device: torch.device

    def odds(self, those: Traces) -> np.ndarray:
        """(n,) float64 log odds of being marked."""
        import torch

        from tocsin.detectors.profiles import apart

        far = (self.ruler.far(apart(those, self.clean, self.references)) - self.centre) / self.unit
        with torch.inference_mode():
            return np.asarray(self.network(torch.from_numpy(far).to(self.device)).cpu().double().numpy())


_FAST = Steganalyser()
# There is no published procedure; paper is ours at length.
PRESETS: dict[str, Steganalyser] = {"fast": _FAST, "paper": replace(_FAST, preset_name="paper", folds=10, copies=10, steps=1000)}
"""Preset name -> settings."""


def kind_for(data: Dataset) -> SpeechKind:
    """The front end. Raises `InputError` without a sampling rate."""
    from tocsin.kinds.speech import SpeechKind

    if data.rate is None:
        raise InputError("steganalyser: the clips' sampling rate is not known")
    return SpeechKind(data.rate, 0.0, 1.0)


def traces_of(kind: SpeechKind, train: Dataset, reserve: Dataset, runtime: Runtime) -> tuple[Traces, Traces]:
    """What is read of the clips of both sides."""
    from tocsin.detectors.audio_clips import speakers_of
    from tocsin.detectors.profiles import Traces, views_of

    n, total, speakers = len(train), len(train) + len(reserve), speakers_of(train, reserve)
    known = np.full(total, -1, np.int64) if speakers is None else speakers
    first = views_of(kind, train.inputs, runtime, lambda share: runtime.progress("listening", share * n / total))
    rest = views_of(kind, reserve.inputs, runtime, lambda share: runtime.progress("listening", (n + share * len(reserve)) / total))
    return Traces(first, train.labels, known[:n]), Traces(rest, reserve.labels, known[n:])
