"""Confusion Training (CT): Qi et al., "Towards A Proactive ML Approach for Detecting Backdoor Poison Samples", USENIX Security 2023.

Train on the inspected data and, with much more weight, on clean reserve samples under wrong, ever changing labels. What an image
shows no longer tells its label; only a trigger still does. Samples that keep their label are suspicious, the next round looks at
those alone, and after some rounds the poison stands apart. `preset="paper"` is the published procedure, `preset="fast"` ours;
docs/confusion-training.md says what differs and why, with measurements.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from tocsin.data.dataset import Dataset, concatenate
from tocsin.detectors.base import Detector, Findings, preset_of
from tocsin.errors import InputError
from tocsin.runtime import Runtime

_ROUND_FIELDS = ("pretrain_epochs", "confusion_steps", "confusion_lr", "confusion_momentum", "reserve_weight", "mix_every", "class_weights")


_LONGER, _MORE = 3, 2
"""Times as many passes before confusion, and as many steps of it, for texture."""


@dataclass(frozen=True)
class ConfusionTraining(Detector):
    """Confusion Training: finds samples whose label a network still knows after the reserve has made it forget what images mean.

    The defaults are the fast preset. Fields that are lists have one entry a round; the first round sees all samples.
    """

    name: ClassVar[str] = "ct"
    kinds: ClassVar[frozenset[str]] = frozenset({"image", "speech", "table"})

    not_defined: ClassVar[Mapping[str, str]] = {
        "self-supervised": "it looks for samples that keep their label while a network forgets what samples mean, and there are none"
    }
    by_kind: ClassVar[Mapping[str, Mapping[str, str]]] = {"table": {"fast": "table", "thorough": "table-thorough", "paper": "table-paper"}}

    preset_name: str = "fast"
    """The preset the settings started from; for the report only."""
    network: str = "shortcut"
    """shortcut (strided convolutions beside a linear layer on whitened pixels; for tables a narrow MLP) or one of `tocsin train`'s."""
    width: float = 1.0
    """Of the shortcut network's convolutions."""
    members: int = 2
    """Networks a round; they run side by side on CPU cores, and their margins are averaged."""
    cross_fit: bool = True
    """A sample is scored only by networks that were not trained on it, so that none looks suspicious for
    having been memorised, and held-out reserve samples are a fair control. Needs an even number of members."""
    control_share: float = 0.25
    """Share of the reserve held out of all training as a control."""
    rotate: bool = False
    """Each half of the reserve confuses networks for which the other half is the control; instead of ``control_share``. A control as large
    as the reserve tells far smaller excesses from chance; needs cross_fit."""
    teacher_epochs: int = 0
    """Epochs of a ResNet-18 on the inspected data whose predictions the wrong labels are counted from; 0: the reserve's own labels."""
    keep: tuple[float, ...] = (0.05, 0.03)
    """Share of all samples that each later round is trained on (poison distillation)."""
    ranking: Literal["last", "mean"] = "mean"
    """Samples are kept by the last round's loss, or by the mean margin over the rounds so far."""
    sharpen: bool = True
    """The scores are also seen through a matched filter in whitened pixels (`sharpen`), where the data have such; needs the shortcut
    network."""
    texture: bool = False
    """Pictures are looked at once more as texture (`tocsin.stats.texture`), which shows warps and blurs: the same rounds with a small
    network, trained longer. Only with sharpen and decision=tail. Off until its false alarms have been measured on
    more clean data (docs/confusion-training.md)."""
    keep_sharpened: bool = False
    """Half of what later rounds keep is chosen by the sharpened score: for faint full-frame triggers, at some cost for patches."""
    first_weight: float = 0.5
    """Weight of the first round in the mean margin, once there are others: it saw the least density of poison."""
    warm_start: bool = False
    """Rounds begin with the pretrained weights of the round before; else with fresh ones."""
    pretrain_epochs: tuple[float, ...] = (3.2, 12.0, 12.0)
    """Passes over the round's samples before confusion."""
    pretrain_least: int = 150
    """But at least this many steps."""
    pretrain_steps: tuple[int, ...] = ()
    """Steps before confusion, in place of passes."""
    pretrain_lr: float = 0.1
    """Learning rate of pretraining."""
    pretrain_batch: int = 128
    """Samples a pretraining step."""
    decay: bool = True
    """Pretraining rate rises in 20 steps and falls to a tenth; else it is constant."""
    mixed_last: bool = False
    """The last round pretrains on the reserve too, labelled one class on."""
    confusion_steps: tuple[int, ...] = (200, 200, 200)
    """Steps against the reserve's wrong labels."""
    confusion_lr: tuple[float, ...] = (0.02, 0.05, 0.05)
    """Learning rate of confusion."""
    confusion_batch: int = 128
    """Samples of either part a confusion step."""
    confusion_momentum: tuple[float, ...] = (0.9, 0.9, 0.9)
    """Momentum of SGD in confusion."""
    reserve_weight: tuple[float, ...] = (20.0, 20.0, 20.0)
    """lambda: the reserve's loss weighs (lambda - 1) / lambda."""
    mix_every: tuple[int, ...] = (1, 1, 1)
    """q: inspected samples join every q-th confusion step."""
    class_weights: tuple[bool, ...] = (True, True, True)
    """Inspected samples weigh 1 / sqrt(class frequency + 0.001)."""
    wrong_labels: Literal["shift", "any"] = "shift"
    """The reserve's wrong labels: one class on, two, ... (published), or any, each drawn from all classes, for two of them."""
    confused_layers: Literal["all", "first"] = "all"
    """What confusion trains: all layers (published), or the weights of the first alone, which belong to single inputs."""
    norm: Literal["joint", "split", "both"] = "both"
    """Batch norm in confusion: one joint forward; split with running statistics of the reserve alone (what the official code does on
    two GPUs); or split with running statistics of both."""
    weight_decay: float = 5e-4
    """Of SGD."""
    decision: Literal["tail", "control", "likelihood", "em"] = "tail"
    """tail (ours: classes are compared with each other), control (ours: each class with its own reserve), the published simplified
    likelihood test, or its older variant with a constrained two-Gaussian EM."""
    misfits: bool | None = None
    """Labels that do not fit are looked at too, as a series of its own (`misfits`). None: wherever that is known to help: pictures."""
    finish: bool | None = None
    """Samples of a named class that have in common what sets its flagged ones apart are flagged too, whatever their score: rows of a table
    that obey their rule (`rules`), pictures with wrong labels that look like them (`likeness`, `second_look`) or share a pattern of their
    own (`leftover`). None: wherever there is such a look."""
    alpha: float = 0.01
    """tail, control: bound on the chance of naming any class of a clean data set, as the control and the other classes predict it."""

    def __post_init__(self) -> None:
        rounds, wrong = len(self.keep) + 1, []
        for name in _ROUND_FIELDS:
            if len(getattr(self, name)) != rounds:
                wrong.append(f"{name} has {len(getattr(self, name))} entries")
        if wrong:
            raise InputError(
                f"keep has {rounds - 1} entries, so there are {rounds} rounds and as many entries are needed: {', '.join(wrong)}"
            )
        if self.pretrain_steps and len(self.pretrain_steps) != rounds:
            raise InputError(f"pretrain_steps: got {len(self.pretrain_steps)} entries, allowed are none or one a round ({rounds})")
        if self.rotate and not self.cross_fit:
            raise InputError("rotate: needs cross_fit, which parts the samples into halves")
        if self.members < 1 or (self.cross_fit and self.members % 2):
            raise InputError(f"members: got {self.members}; allowed is 1 or more, and an even number with cross_fit")
        if self.sharpen and (self.network != "shortcut" or self.ranking != "mean" or not self.cross_fit):
            raise InputError("sharpen: needs network=shortcut, ranking=mean and cross_fit; set sharpen=false without them")
        if self.texture and not (self.sharpen and self.decision == "tail"):
            raise InputError("texture: needs sharpen and decision=tail")
        if not all(0 < share <= 1 for share in self.keep) or not 0 <= self.control_share <= 0.9:
            raise InputError(f"keep and control_share are shares of 1: got keep {self.keep}, control_share {self.control_share}")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> ConfusionTraining:
        """The settings called ``name`` (see `PRESETS`), with ``changes``. Raises `InputError` for an unknown one."""
        return preset_of(PRESETS, name, changes)

    @property
    def in_texture(self) -> ConfusionTraining:
        """How texture is looked at: networks of 25,000 weights learn slowly and each by its luck, but a step costs next to nothing."""
        return replace(
            self,
            members=2 * self.members,
            pretrain_epochs=tuple(_LONGER * epochs for epochs in self.pretrain_epochs),
            confusion_steps=tuple(_MORE * steps for steps in self.confusion_steps),
            confusion_lr=(max(self.confusion_lr),) * self.rounds,
        )

    @property
    def rounds(self) -> int:
        return len(self.keep) + 1

    def _also_asked(self, kind: str) -> tuple[bool, bool]:
        """Whether labels that do not fit are looked at, and whether what is like the flagged samples is flagged, for data of ``kind``.

        Raises `InputError` where the settings ask for what these data do not have.
        """
        misfits = kind == "image" and self.decision == "tail" and self.sharpen
        if self.misfits and not misfits:
            raise InputError(f"misfits: got true with {kind} data; allowed are pictures, with decision=tail and sharpen")
        finishing = self.decision in {"table": ("tail", "control"), "image": ("tail",)}.get(kind, ())
        if self.finish and not finishing:
            raise InputError(
                f"finish: got true with {kind} data and decision={self.decision}; "
                "allowed are tables with tail or control, and pictures with tail"
            )
        misfits &= self.misfits is not False
        if self.finish and not misfits and kind == "image":
            raise InputError("finish: on pictures it goes by how well labels fit; leave misfits=false or sharpen=false out, or finish=true")
        return misfits, finishing and self.finish is not False and (misfits or kind == "table")

    def inspect(self, train: Dataset, reserve: Dataset, runtime: Runtime, *, canaries: np.ndarray | None = None) -> Findings:
        """Scores, flags and class evidence for ``train``. ``reserve``: clean, same classes and sample shape (specification 2).

        Deterministic on one machine for one ``runtime.seed``. With ``runtime.checkpoints`` each finished round is kept there and a
        killed run goes on from it.
        """
        from tocsin.detectors.decide import DECISIONS, Scored, Series, judged_apart
        from tocsin.detectors.distillation import LABELS_SHARE, Distillation
        from tocsin.detectors.finish import put_first, with_further, with_rules

        misfits, finishing = self._also_asked(train.kind)
        if len(train.classes) < 2:
            raise InputError("the training data has one class only; Confusion Training needs at least two")
        began = time.monotonic()
        ignore = np.zeros(len(train), bool) if canaries is None else canaries >= 0
        held_out, confusing = (reserve[:0], reserve) if self.rotate else split_reserve(reserve, self.control_share, runtime.seed)
        joined = concatenate(train, concatenate(confusing, held_out) if len(held_out) else confusing)
        work = Distillation(self, train, joined, len(confusing), ignore, runtime)
        result = work.run()
        grain = work.run_in_texture(self.in_texture) if self.texture else None
        labels = work.look_at_labels() if misfits else []
        further = labels + ([Series("texture", grain.views)] if grain is not None else [])
        decided = time.monotonic()
        n, held = len(train), slice(len(train) + (0 if self.rotate else len(confusing)), None)
        rounds = Series("rounds", result.views)
        seen = Scored(
            rounds.part(slice(n)).rounds,
            train.labels,
            train.classes,
            ignore,
            result,
            self.alpha,
            control=rounds.part(held).rounds,
            control_labels=joined.labels[held],
            further=[series.part(slice(n)) for series in further],
            share=1 - (LABELS_SHARE if labels else 0),  # texture, which is off by default, is a chance of its own
        )
        verdict = judged_apart(DECISIONS[self.decision], seen, canaries)
        if finishing and train.kind == "table":
            verdict = with_rules(verdict, train, reserve, ~ignore)
        elif finishing:
            verdict = with_further(verdict, work.further(verdict), train, ~ignore)
        scores = result.seen_in(verdict.view, [views for series in further for views in series.views])
        if further:
            scores = np.concatenate([put_first(scores[:n], verdict.flagged, train.labels, ~ignore), scores[n:]])
        inner = {} if grain is None else {f"texture, {name}": seconds for name, seconds in grain.timings.items()}
        deciding = time.monotonic() - decided - result.timings.get("further suspects", 0.0)
        told = {"rounds": result.history, "images trained": result.seen, "settings": asdict(self), "view": verdict.view, **verdict.evidence}
        return Findings(
            detector=self.name,
            preset=self.preset_name,
            scores=scores[:n],
            flagged=verdict.flagged,
            classes=verdict.classes,
            confidence=verdict.confidence,
            threshold=verdict.threshold,
            control=scores[held],
            evidence=told,
            timings={**result.timings, **inner, "deciding": deciding, "total": time.monotonic() - began},
        )


def split_reserve(reserve: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """(held out, the rest): ``share`` of each class, at least one sample where it has two or more."""
    out = hold_out(reserve.labels, len(reserve.classes), share, seed)
    return reserve[out], reserve[~out]


def hold_out(labels: np.ndarray, classes: int, share: float, seed: int) -> np.ndarray:
    """(M,) bool: ``share`` of each class of ``labels`` (M,), at least one where it has two or more."""
    rng = np.random.default_rng([seed, 0xC0])
    out = np.zeros(len(labels), bool)
    for k in range(classes):
        rows = rng.permutation(np.flatnonzero(labels == k))
        out[rows[: max(int(share > 0 and len(rows) > 1), round(share * len(rows)))]] = True
    return out


_FAST = ConfusionTraining()
# A small network on a few numbers a row: many short steps. What two classes need: `confusion`, docs/tables-detection.md.
_TABLE = ConfusionTraining(
    preset_name="table",
    members=4,
    rotate=True,
    sharpen=False,
    keep=(0.2, 0.05, 0.025, 0.0125),
    first_weight=0.0,
    pretrain_epochs=(1.0,) * 5,
    pretrain_steps=(600, 200, 200, 200, 200),
    pretrain_lr=0.02,
    pretrain_batch=256,
    confusion_steps=(300,) * 5,
    confusion_lr=(0.01,) * 5,
    confusion_momentum=(0.7,) * 5,
    reserve_weight=(20.0,) * 5,
    wrong_labels="any",
    confused_layers="first",
    mix_every=(1,) * 5,
    class_weights=(True,) * 5,
    norm="split",
    decision="control",
    finish=True,
)
PRESETS: dict[str, ConfusionTraining] = {
    "fast": _FAST,
    # The same procedure with wider networks, more of them, and longer training.
    "thorough": replace(
        _FAST,
        preset_name="thorough",
        keep_sharpened=True,
        width=1.5,
        members=4,
        keep=(0.10, 0.05, 0.03, 0.02),
        pretrain_epochs=(6.0, 12.0, 12.0, 12.0, 12.0),
        confusion_steps=(300, 300, 300, 300, 300),
        confusion_lr=(0.02, 0.05, 0.05, 0.05, 0.05),
        confusion_momentum=(0.9,) * 5,
        reserve_weight=(20.0,) * 5,
        mix_every=(1,) * 5,
        class_weights=(True,) * 5,
    ),
    "table": _TABLE,
    "table-thorough": replace(
        _TABLE, preset_name="table-thorough", members=8, pretrain_steps=(1200, 400, 400, 400, 400), confusion_steps=(600,) * 5
    ),
    # The EMBER column of the paper's code, as far as it is known: the published class test, on tables.
    "table-paper": ConfusionTraining(
        preset_name="table-paper",
        network="mlp",
        members=1,
        cross_fit=False,
        sharpen=False,
        texture=False,
        control_share=0.0,
        teacher_epochs=0,
        keep=(1 / 5, 1 / 20, 1 / 40, 1 / 80),
        ranking="last",
        warm_start=True,
        pretrain_epochs=(1.0,) * 5,
        pretrain_steps=(6000, 4000, 4000, 4000, 4000),
        pretrain_lr=0.01,
        pretrain_batch=512,
        decay=False,
        mixed_last=True,
        confusion_steps=(6000,) * 5,
        confusion_lr=(0.01,) * 5,
        confusion_batch=256,
        confusion_momentum=(0.7,) * 5,
        reserve_weight=(20.0,) * 5,
        mix_every=(2,) * 5,
        class_weights=(True,) * 5,
        norm="split",
        weight_decay=1e-6,
        decision="likelihood",
    ),
    # The CIFAR-10 column of the paper's code (specification 2.6); GTSRB's differs in the rates only.
    "paper": ConfusionTraining(
        preset_name="paper",
        network="resnet18",
        members=1,
        cross_fit=False,
        sharpen=False,
        texture=False,
        control_share=0.0,
        teacher_epochs=100,
        keep=(1 / 2, 1 / 5, 1 / 25, 1 / 50, 1 / 100),
        ranking="last",
        warm_start=True,
        pretrain_epochs=(100.0, 100.0, 40.0, 40.0, 40.0, 40.0),
        pretrain_least=1,
        pretrain_lr=0.01,
        pretrain_batch=32,
        decay=False,
        mixed_last=True,
        confusion_steps=(6000, 6000, 6000, 6000, 2000, 2000),
        confusion_lr=(0.001, 0.001, 0.001, 0.01, 0.01, 0.01),
        confusion_batch=32,
        confusion_momentum=(0.7,) * 6,
        reserve_weight=(20.0, 20.0, 20.0, 30.0, 30.0, 15.0),
        mix_every=(2,) * 6,
        class_weights=(True, True, True, True, True, False),
        norm="split",
        weight_decay=1e-4,
        decision="likelihood",
    ),
}
"""Preset name -> settings."""
