"""Steganalyser: a network that has learned what marked speech is like, from marks that the auditor makes (drl-clba-speech 5.3, item 7).

The reserve, which is known to be clean, is marked by the auditor's own embedders with keys drawn afresh for each clip (`embedders`). A
small network learns to tell marked from clean by what sets a clip apart from reserve clips of the same word, and speaker where known:
speakers differ by more than a mark does. No inspected clip is trained on, and no trained victim is read. docs/audio-stego.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tocsin.data.dataset import Dataset
from tocsin.detectors.base import Detector, Findings, found_beside, preset_of
from tocsin.errors import InputError
from tocsin.runtime import Runtime, silent

if TYPE_CHECKING:
    import torch

    from tocsin.detectors.profiles import Traces
    from tocsin.kinds.speech import SpeechKind
    from tocsin.networks.steganalyser import Steganalyser as Network

_NAMES = ("per-bin", "mel-gain", "waveform", "smooth")
_BLOCK = 512


@dataclass(frozen=True)
class Steganalyser(Detector):
    """A network trained on marks of the auditor's own says which clips are marked; flags where a class has more of them than its reserve."""

    name: ClassVar[str] = "steganalyser"
    kinds: ClassVar[frozenset[str]] = frozenset({"speech"})

    preset_name: str = "fast"
    """The preset the settings started from; for the report only."""
    families: tuple[str, ...] = _NAMES
    """Embedders that the network is trained on: of per-bin, mel-gain, waveform, smooth."""
    references: int = 2
    """Reserve clips that each clip is held against; 0: none, the clip is judged by itself."""
    folds: int = 2
    """Networks; each judges the part of the reserve, and of the inspected clips, that is its own, and is trained on the rest of the reserve."""
    marks: int = 2000
    """Marked clips of each family that a network is trained on; each has a key of its own."""
    steps: int = 300
    """Steps that each network is trained for."""
    batch: int = 64
    """Clean clips a step, and as many marked ones."""
    lr: float = 0.003
    """Highest learning rate of AdamW's one cycle."""
    alpha: float = 0.05
    """Bound on the chance of naming any class of a clean data set."""

    def __post_init__(self) -> None:
        wrong = [name for name in self.families if name not in _NAMES]
        if wrong or not self.families:
            raise InputError(f"families: got {', '.join(wrong) or 'none'}; allowed are some of {', '.join(_NAMES)}")
        if self.references < 0 or self.folds < 2 or min(self.marks, self.steps) < 1 or self.batch < 2:
            raise InputError(
                f"references {self.references}, folds {self.folds}, marks {self.marks}, steps {self.steps}, batch {self.batch}: "
                "allowed are references from 0, folds and batch from 2, marks and steps from 1"
            )
        if not (0 < self.alpha < 1 and 0 < self.lr < float("inf")):
            raise InputError(f"alpha {self.alpha}, lr {self.lr}: allowed are an alpha between 0 and 1 and an lr above 0")

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
        found = found_beside(lambda rows: self._decided(scores[rows], control, train[rows], reserve), canaries, len(train))
        now = time.monotonic()
        return replace(found, timings={"judging": judged - began, "deciding": now - judged, "total": now - began})

    def scored(self, train: Dataset, reserve: Dataset, runtime: Runtime) -> tuple[np.ndarray, np.ndarray]:
        """((N,), (M,)) log odds of being marked, of inspected and of reserve clips, each by a network that was not trained on the clip.

        Inspected clips are shared out among the networks as reserve clips are, so that a clean one is scored exactly as a reserve clip is.
        """
        from tocsin.detectors.audio_judges import parts

        kind = _kind(train)
        if len(reserve) < 2 * self.folds:
            raise InputError(f"reserve: got {len(reserve)} clips, steganalyser needs {2 * self.folds} at least for {self.folds} folds")
        inspected, clean = _traces(kind, train, reserve, runtime)
        scores, control = np.zeros(len(train)), np.zeros(len(reserve))
        shares = zip(parts(train.labels, self.folds, runtime.seed), parts(reserve.labels, self.folds, runtime.seed), strict=True)
        for number, (mine, held) in enumerate(shares):
            judge = self.trained(kind, reserve.inputs[~held], clean.part(~held), runtime, number)
            scores[mine], control[held] = judge.odds(inspected.part(mine)), judge.odds(clean.part(held))
        return scores, control

    def trained(self, kind: SpeechKind, clips: np.ndarray, traces: Traces, runtime: Runtime, number: int = 0) -> Judge:
        """A network that tells the clean ``clips`` int16 (n, T), whose ``traces`` are known, from marked copies of them.

        Random from ``runtime.seed`` and the ``number`` of the network; progress is told as of one among `folds`.
        """
        import torch
        from torch.nn import functional as F

        from tocsin.detectors.profiles import nearest
        from tocsin.learning import descend, deterministic, one_cycle, seeded
        from tocsin.networks.steganalyser import Steganalyser as Network

        device, rng = runtime.torch_device(), np.random.default_rng([runtime.seed, number, 0x57E6])
        held = _held(traces, nearest(traces, traces, self.references, itself=True)) if self.references else np.zeros_like(traces.profile)
        clean = torch.from_numpy(traces.profile - held)
        marks = torch.from_numpy(np.concatenate([self._marks(kind, clips, held, name, rng, runtime) for name in self.families]))
        with seeded(torch.device("cpu"), runtime.seed + number):
            network = Network(clean.shape[1]).to(device).train()
        optimizer = torch.optim.AdamW(network.parameters(), self.lr, weight_decay=0.01)
        answers = torch.cat([torch.zeros(self.batch), torch.ones(self.batch)]).to(device)
        with deterministic(device), seeded(device, runtime.seed + number):
            for step in range(self.steps):
                rows, which = rng.integers(0, len(clean), self.batch), rng.integers(0, len(marks), self.batch)
                logits = network(torch.cat([clean[rows], marks[which]]).to(device))
                optimizer.param_groups[0]["lr"] = one_cycle(step, self.steps, self.lr)
                descend(optimizer, F.binary_cross_entropy_with_logits(logits, answers))
                runtime.progress("training the steganalyser", (number + (step + 1) / self.steps) / max(self.folds, number + 1))
        return Judge(network.eval(), traces, self.references, device)

    def _marks(
        self, kind: SpeechKind, clips: np.ndarray, held: np.ndarray, family: str, rng: np.random.Generator, runtime: Runtime
    ) -> np.ndarray:
        """(marks, 3, bins) float32: profiles of marked copies of random ``clips``, less what these are ``held`` against."""
        from tocsin.detectors.embedders import marked
        from tocsin.detectors.profiles import profiles

        rows = rng.integers(0, len(clips), self.marks)
        quiet = replace(runtime, progress=silent)
        found = [
            profiles(kind, marked(np.array(clips[part]), kind, (family,), rng), quiet)
            for part in np.array_split(rows, -(-len(rows) // _BLOCK))
        ]
        return np.asarray(np.concatenate(found) - held[rows])

    def _decided(self, scores: np.ndarray, control: np.ndarray, train: Dataset, reserve: Dataset) -> Findings:
        from tocsin.detectors.control import against_control
        from tocsin.detectors.decide import Scored

        none = np.zeros(len(train), bool)
        seen = Scored([], train.labels, train.classes, none, alpha=self.alpha, control_labels=reserve.labels)
        verdict = against_control(scores, control, seen)
        return Findings(
            detector=self.name,
            preset=self.preset_name,
            scores=scores.astype(np.float32),
            flagged=verdict.flagged,
            classes=verdict.classes,
            confidence=verdict.confidence,
            threshold=verdict.threshold,
            control=control.astype(np.float32),
            evidence={"settings": asdict(self), **verdict.evidence},
        )


@dataclass(frozen=True)
class Judge:
    """A trained network and the clean clips that it holds others against."""

    network: Network
    clean: Traces
    references: int
    device: torch.device

    def odds(self, those: Traces) -> np.ndarray:
        """(n,) float64 log odds of being marked."""
        import torch

        from tocsin.detectors.profiles import nearest

        apart = those.profile - (_held(self.clean, nearest(those, self.clean, self.references)) if self.references else 0)
        with torch.inference_mode():
            parts = [self.network(torch.from_numpy(part).to(self.device)).cpu().double() for part in _blocks(apart)]
        return torch.cat(parts).numpy() if parts else np.empty(0)


_FAST = Steganalyser()
PRESETS: dict[str, Steganalyser] = {"fast": _FAST, "paper": replace(_FAST, preset_name="paper", folds=5, marks=5000, steps=1000)}
"""Preset name -> settings."""


def _kind(data: Dataset) -> SpeechKind:
    from tocsin.kinds.speech import SpeechKind

    if data.rate is None:
        raise InputError("steganalyser: the clips' sampling rate is not known")
    return SpeechKind(data.rate, 0.0, 1.0)


def _traces(kind: SpeechKind, train: Dataset, reserve: Dataset, runtime: Runtime) -> tuple[Traces, Traces]:
    from tocsin.detectors.audio_clips import speakers_of
    from tocsin.detectors.profiles import Traces, contents, profiles

    speakers = speakers_of(train, reserve)
    known = np.full(len(train) + len(reserve), -1, np.int64) if speakers is None else speakers
    return tuple(  # type: ignore[return-value]
        Traces(profiles(kind, side.inputs, runtime), contents(kind, side.inputs, runtime), side.labels, who)
        for side, who in ((train, known[: len(train)]), (reserve, known[len(train) :]))
    )


def _held(clean: Traces, rows: np.ndarray) -> np.ndarray:
    """(n, 3, bins): the mean profile of the ``clean`` clips in ``rows`` (n, references)."""
    return np.asarray(sum(clean.profile[column] for column in rows.T) / rows.shape[1], np.float32)


def _blocks(values: np.ndarray) -> Sequence[np.ndarray]:
    return [values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK)]
