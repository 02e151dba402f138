"""The rounds of Confusion Training: who is trained on what, and who is scored by whom.

Poison distillation is the paper's section 4.2 (specification 2.4); members and cross-fitting are ours.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tocsin.data.dataset import Dataset
from tocsin.detectors import doubt, everywhere, misfits
from tocsin.detectors.confusion import ConfuseSettings, PretrainSettings, confuse, penultimate, pretrain, score
from tocsin.detectors.decide import Series, Verdict
from tocsin.detectors.rounds import Store, combine, distil, median_band, place
from tocsin.detectors.sharpen import FOLDS, by_class, count_distinct, sharpen
from tocsin.detectors.workbench import SCORE_BATCH, Bench, side_by_side
from tocsin.errors import InputError
from tocsin.runtime import Runtime, Ticker
from tocsin.stats.texture import LEAST_SIDE

if TYPE_CHECKING:
    from tocsin.detectors.ct import ConfusionTraining
    from tocsin.detectors.texture_look import TextureLook

LABELS_SHARE = misfits.SHARE + everywhere.SHARE + doubt.SHARE
"""Of alpha, for what `Distillation.look_at_labels` asks."""


@dataclass
class Distilled:
    """What the rounds leave behind."""

    scores: np.ndarray
    """(n + m,) float32 over inspected and reserve rows."""
    views: list[dict[str, np.ndarray]]
    """(n + m,) float32 each: the scores as they stood after each round, plain and sharpened (`sharpen`), comparable between classes, by
    "margins 1" and the like; empty where the decision does not look at them."""
    predicted: np.ndarray
    """(n,) bool: the last round's network still predicts the delivered label."""
    median_band: np.ndarray
    """(n,) bool: the middle tenth of each class by the last round's loss ("probably clean", specification 2.4)."""
    features: np.ndarray | None
    """(n, F) of the last round's network, where the decision needs them."""
    history: list[dict[str, Any]] = field(default_factory=list)
    seen: int = 0
    timings: dict[str, float] = field(default_factory=dict)

    def seen_in(self, view: str | None, more: Sequence[Mapping[str, np.ndarray]] = ()) -> np.ndarray:
        """(n + m,) the scores by the name of their view, here or among ``more``; those of the last round where there is none."""
        by_name = {name: scores for views in (*self.views, *more) for name, scores in views.items()}
        return self.scores if view is None else by_name[view]


@dataclass(frozen=True)
class _RoundSettings:
    pretrain: PretrainSettings
    confuse: ConfuseSettings

    @property
    def steps(self) -> int:
        return self.pretrain.steps + self.confuse.steps

    @property
    def images(self) -> int:
        """That one member passes through forward and backward."""
        mixed = -(-self.confuse.steps // self.confuse.mix_every)
        return self.pretrain.steps * self.pretrain.batch + (self.confuse.steps + mixed) * self.confuse.batch


class Distillation:
    """One run. Rows 0..n-1 of ``joined`` are inspected, the next ``confusing`` rows confuse, the rest is the held-out control."""

    def __init__(
        self, how: ConfusionTraining, train: Dataset, joined: Dataset, confusing: int, ignore: np.ndarray, runtime: Runtime
    ) -> None:
        self.how, self.train, self.runtime, self.ignore = how, train, runtime, ignore
        self.n, self.joined = len(train), joined
        self.confusing = torch.arange(self.n, self.n + confusing)
        self.device = runtime.torch_device()
        self.timings: dict[str, float] = {}
        self.features: np.ndarray | None = None
        self.stage = "round"
        self.texture_look: TextureLook | None = None

    def run(self) -> Distilled:
        """All rounds. Raises `AuditIncomplete` where a checkpoint cannot be written."""
        self._prepare()
        return self._rounds()

    def look_at_labels(self) -> list[Series]:
        """After `run`: series, (n + m,) each, in which what stands out are labels that do not fit (`misfits`), and where very many of a
        class do not, these by their texture (`doubt`), and what all classes' share (`everywhere`); none where there are too few classes."""
        began = time.monotonic()
        stored = self.store.read(self.how.rounds)  # kept as one round more, so that a killed run has it
        if stored is None:
            self.fit = misfits.fit_of_labels(self.bench, self.groups, self.how.pretrain_least, self.runtime)
            self.store.write(self.how.rounds, self.fit, self.fit)
        else:
            self.fit = stored[0]
        if len(self.train.classes) < misfits.LEAST_CLASSES:  # `further` still goes by how well labels fit
            self.timings["labels"] = time.monotonic() - began
            return []
        asked = (self.fit, self.bench, self.groups, self.ignore, self.distinct, self.runtime.seed)
        out = [misfits.looks(*asked), everywhere.looks(*asked)]
        which = doubt.doubted(self.fit, self.joined.labels, self.ignore, self.distinct, self.how.alpha)
        if which.any() and self.bench.kind.textured and min(self.joined.inputs.shape[1:3]) >= LEAST_SIDE:
            out.append(self._doubt(which))
        self.timings["labels"] = time.monotonic() - began
        return out

    def _doubt(self, which: np.ndarray) -> Series:
        from tocsin.detectors.texture_look import TextureLook

        labels = self.joined.labels
        stored = self.store.read(self.how.rounds + 1)
        if stored is None:
            trusted = doubt.trusted(self.fit[: self.n], labels[: self.n], which)
            again = misfits.fit_of_labels(self.bench, self.groups, self.how.pretrain_least, self.runtime, trusted)
            self.store.write(self.how.rounds + 1, again, again)
        else:
            again = stored[0]
        textures = Bench.in_texture(self.joined.inputs, labels, self.train, self.device)
        assert textures.whitened is not None
        self.texture_look = TextureLook(textures, again, self.groups, self.ignore, self.runtime)
        return doubt.looks(again, labels, textures.whitened, self.groups, self.ignore, self.distinct, which, self.runtime.seed)

    def further(self, verdict: Verdict) -> dict[str, np.ndarray]:
        """After `look_at_labels`: (n,) bool, what is flagged after each further step. "likeness" adds to ``verdict`` what is of one kind
        with it in its class (`likeness`, `second_look`), "leftover" what is of a further kind (`leftover`), and "grain" flags a class that
        its misfits' texture alone has named anew (`texture_look`)."""
        from tocsin.detectors.leftover import Leftover
        from tocsin.detectors.likeness import Likeness
        from tocsin.detectors.second_look import ROUNDS, SecondLook

        began, sure = time.monotonic(), verdict.flagged if verdict.surest is None else verdict.surest
        seen = (self.bench, self.fit, self.groups, self.ignore, self.runtime)
        alike = Likeness(*seen, self.distinct).extended(verdict.flagged, sure)
        alike = SecondLook(*seen).extended(verdict.flagged, alike, sure, self._kept)
        out = {"likeness": alike, "leftover": Leftover(*seen).extended(alike, sure, partial(self._kept, 0, ROUNDS))}
        if self.texture_look is not None:
            out["grain"] = out["leftover"]
            for k in (k for k, name in enumerate(self.train.classes) if verdict.evidence["named by"].get(name) == [doubt.QUESTION]):
                again = self.texture_look.again(k, out["grain"])
                out["grain"] = out["grain"] if again is None else again
        self.timings["further suspects"] = time.monotonic() - began
        return out

    def _kept(self, k: int, r: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """What `second_look` makes in its round ``r`` for class ``k``, and `leftover` after its last, as one round more of the store."""
        number = self.how.rounds + 2 + r * len(self.train.classes) + k  # after those of `look_at_labels` and `_doubt`
        stored = self.store.read(number)
        if stored is not None:
            return stored[0]
        made = make()
        self.store.write(number, made, made)
        return made

    def run_in_texture(self, how: ConfusionTraining) -> Distilled:
        """After `run`: the same rows, in the same folds, once more as texture. Its one view a round is the sharpened one."""
        began = time.monotonic()
        other = copy.copy(self)
        other.how, other.stage, other.sharpening = how, "texture", True
        other.bench = Bench.in_texture(self.joined.inputs, self.joined.labels, self.train, self.device)
        other.timings = {"preparing": time.monotonic() - began}
        return other._rounds()

    def _prepare(self) -> None:
        how, began = self.how, time.monotonic()
        self.bench = Bench.of(self.joined.inputs, self.joined.labels, self.train, self.device, branch=how.network == "shortcut", moved=True)
        # A near duplicate in the training fold is as good as the sample itself: groups share a fold.
        kind = self.bench.kind
        if how.confused_layers == "first" and self.bench.whitened is not None:
            raise InputError("confused_layers: got first, but the shortcut network for pictures and sounds has two layers that read them")
        if how.texture and not (kind.textured and min(self.joined.inputs.shape[1:3]) >= LEAST_SIDE):
            raise InputError(f"texture: only pictures of {LEAST_SIDE} x {LEAST_SIDE} pixels and more have one; leave it out for these data")
        self.groups = kind.duplicates(self.train.inputs, self.train.labels, self.device) if how.cross_fit else np.arange(self.n)
        self.sharpening = how.sharpen and self.bench.whitened is not None
        self.viewed, self.featured = how.decision == "tail", how.decision in ("likelihood", "em")
        if self.viewed or self.sharpening:
            answers = self.joined.labels[self.n :]
            repeats = kind.duplicates(self.joined.inputs[self.n :], answers, self.device)
            self.distinct = count_distinct(repeats, answers, len(self.train.classes))
        self.timings["preparing"] = time.monotonic() - began

    def _rounds(self) -> Distilled:
        how = self.how
        self.store = Store(self.runtime.checkpoints, self._key)
        self.pseudo = self._teacher()
        kept: list[np.ndarray] = [np.arange(self.n)]
        margins: list[np.ndarray] = []
        weights: list[nn.Module | None] = [None] * how.members
        history: list[dict[str, Any]] = []
        views: list[dict[str, np.ndarray]] = []
        seen = 0
        for r in range(how.rounds):
            began = time.monotonic()
            fold = self._folds(r)
            settings = self._settings(r, len(kept[r]))
            margin, loss, weights = self._round(r, kept[r], fold, settings, weights)
            margins.append(margin)
            self.timings[f"round {r}"] = time.monotonic() - began
            seen += how.members * settings.images
            combined = combine(margins, self.n, self.ignore, how.first_weight)
            sharp = self._sharpened(r, combined) if self.sharpening else None
            if self.stage == "texture":
                assert sharp is not None
                views.append({f"texture {r + 1}": sharp})
            elif how.decision == "control":
                views = [{f"margins {r + 1}": combined}]  # the last decides
            elif self.viewed:
                plain = by_class(combined, self.joined.labels, self.n, self.distinct).astype(np.float32)
                views.append({f"margins {r + 1}": plain, **({f"sharpened {r + 1}": sharp} if sharp is not None else {})})
            history.append(self._summary(r, kept[r], combined, settings))
            if r + 1 < how.rounds:
                order = np.argsort(self._ranks(loss, combined, sharp), kind="stable")
                floor = 100 if r == how.rounds - 2 else 50
                kept.append(distil(order, self.train.labels, len(self.train.classes), how.keep[r], floor))
        return Distilled(
            scores=combined if how.ranking == "mean" else -loss,
            views=views,
            predicted=margins[-1][: self.n] > 0,
            median_band=median_band(loss[: self.n], self.train.labels, len(self.train.classes)),
            features=self.features,
            history=history,
            seen=seen,
            timings=self.timings,
        )

    def _sharpened(self, r: int, combined: np.ndarray) -> np.ndarray:
        assert self.bench.whitened is not None
        began = time.monotonic()
        fold = np.random.default_rng([self.runtime.seed, 0x5A, r]).integers(0, FOLDS, self.n)[self.groups]
        out = sharpen(combined, self.joined.labels, self.bench.whitened[: len(self.joined)], self.n, fold, self.ignore, self.distinct)
        self.timings[f"sharpening {r}"] = time.monotonic() - began
        return out

    def _ranks(self, loss: np.ndarray, combined: np.ndarray, sharp: np.ndarray | None) -> np.ndarray:
        """(n,) what is kept first for the next round: by loss, by margin, or by margin and sharpened score in turns."""
        if self.how.ranking == "last":
            return loss[: self.n]
        if sharp is None or not self.how.keep_sharpened:
            return -combined[: self.n]
        return np.asarray(np.minimum(place(-combined[: self.n]), place(-sharp[: self.n])))

    def _round(
        self, r: int, rows: np.ndarray, fold: np.ndarray, settings: _RoundSettings, weights: list[nn.Module | None]
    ) -> tuple[np.ndarray, np.ndarray, list[nn.Module | None]]:
        """(margin, loss, pretrained networks) of round ``r``: every member, side by side on CPU cores."""
        how = self.how
        crossed, stage = how.cross_fit, f"{self.stage} {r + 1} of {how.rounds}"
        needs_weights = how.warm_start or (r == how.rounds - 1 and self.featured)
        stored = None if needs_weights else self.store.read(r)  # networks are not stored: such runs repeat from the start
        if stored is not None:
            self.runtime.progress(stage, 1.0)
            return stored[0], stored[1], weights
        scored = (len(self.joined) + 1) // 2 if how.rotate else len(self.joined)
        steps = settings.steps + -(-scored // SCORE_BATCH)
        ticker = Ticker(self.runtime, stage, steps * how.members)

        def member(k: int) -> tuple[np.ndarray, np.ndarray, nn.Module | None]:
            mine = rows[fold[k // 2, rows] == k % 2] if crossed else rows
            mine = mine if len(mine) > 1 else rows  # (nearly) all in the other fold: a network that saw too much rather than none
            half = fold[k // 2] == k % 2 if how.rotate else None
            return self._member(r, k, torch.from_numpy(mine), half, settings, weights[k], ticker)

        results = side_by_side(member, how.members, self.device)
        margin, loss = (np.stack([result[i] for result in results]) for i in (0, 1))  # type: ignore[misc]
        if crossed:  # a sample is scored by the members of the other fold alone
            foreign = np.stack([fold[k // 2] != k % 2 for k in range(how.members)])
            if how.rotate:
                margin = self._comparable(margin, foreign)
            margin, loss = (np.where(foreign, a, 0).sum(0) / foreign.sum(0) for a in (margin, loss))
        else:
            margin, loss = margin.mean(0), loss.mean(0)
        margin, loss = margin.astype(np.float32), loss.astype(np.float32)
        self.store.write(r, margin, loss)
        return margin, loss, [result[2] for result in results]

    def _member(
        self, r: int, k: int, rows: Tensor, half: np.ndarray | None, settings: _RoundSettings, start: nn.Module | None, ticker: Ticker
    ) -> tuple[np.ndarray, np.ndarray, nn.Module | None]:
        """``half`` (n + m,) bool: the rows that the member may see, where it is confused by a part of the reserve and scores the rest."""
        how = self.how
        seed = int(np.random.SeedSequence([self.runtime.seed, r, k]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        network = start if start is not None and how.warm_start else self.bench.network(how.network, how.width, seed)
        confusing = self.confusing if half is None else self.confusing[half[self.n :]]
        pretrain(network, self.bench, rows, confusing, settings.pretrain, generator, ticker)
        pretrained = copy.deepcopy(network) if how.warm_start else None
        confuse(network, self.bench, rows, confusing, self.pseudo, settings.confuse, generator, ticker)
        scored = np.arange(len(self.joined)) if half is None else np.flatnonzero(~half)
        margin, loss = np.zeros((2, len(self.joined)), np.float32)
        margin[scored], loss[scored] = score(network, self.bench, torch.from_numpy(scored), ticker)
        if k == 0 and r == how.rounds - 1 and self.featured:
            self.features = penultimate(network, self.bench, self.n)
        return margin, loss, pretrained

    def _folds(self, r: int) -> np.ndarray:
        """(pairs of members, n + m) 0 or 1: which member of a pair may be trained on a row in round ``r``; drawn anew each round."""
        rng = np.random.default_rng([self.runtime.seed, 0xF0, r])
        fold = rng.integers(0, 2, (-(-self.how.members // 2), len(self.joined)))
        fold[:, : self.n] = fold[:, self.groups]
        if self.how.rotate:  # of each class of the reserve every member is confused by one half
            labels = self.joined.labels[self.n :]
            for pair in fold:
                order = np.lexsort((rng.random(len(labels)), labels))
                pair[self.n + order] = np.arange(len(order)) % 2
        return fold

    def _comparable(self, margins: np.ndarray, foreign: np.ndarray) -> np.ndarray:
        """``margins`` (members, n + m) in units of each member's spread over what is ``foreign`` to it, likewise bool."""
        theirs = [m[: self.n][f[: self.n] & ~self.ignore] for m, f in zip(margins, foreign, strict=True)]
        spread = [max(float(m.std()), 1e-6) if len(m) else 1.0 for m in theirs]  # of a table of equal rows one member sees all
        return np.asarray(margins / np.array(spread)[:, None], np.float32)

    def _settings(self, r: int, samples: int) -> _RoundSettings:
        how = self.how
        mine = samples / 2 if how.cross_fit else samples
        mixed = how.mixed_last and r == how.rounds - 1
        passes = how.pretrain_epochs[r] * (mine + (len(self.confusing) if mixed else 0))
        pretrain = PretrainSettings(
            steps=how.pretrain_steps[r] if how.pretrain_steps else max(how.pretrain_least, round(passes / how.pretrain_batch)),
            lr=how.pretrain_lr,
            batch=how.pretrain_batch,
            decay=how.decay,
            mixed=mixed,
            nesterov=how.decay,
            weight_decay=how.weight_decay,
        )
        confuse = ConfuseSettings(
            steps=how.confusion_steps[r],
            lr=how.confusion_lr[r],
            batch=how.confusion_batch,
            momentum=how.confusion_momentum[r],
            nesterov=how.decay,
            reserve_weight=how.reserve_weight[r],
            mix_every=how.mix_every[r],
            class_weights=how.class_weights[r],
            wrong_labels=how.wrong_labels,
            layers=how.confused_layers,
            norm=how.norm,
            weight_decay=how.weight_decay,
        )
        return _RoundSettings(pretrain, confuse)

    def _teacher(self) -> Tensor:
        """(n + m,) labels that the reserve's wrong ones are counted from: a teacher's predictions, or its own (specification 2.2)."""
        if not self.how.teacher_epochs:
            return self.bench.labels
        from tocsin.learning import FitSettings, fit, predict
        from tocsin.networks import build_network

        began = time.monotonic()
        settings = FitSettings(epochs=self.how.teacher_epochs, lr=0.1, batch=128, weight_decay=1e-4)
        network = build_network("resnet18", self.bench.kind.channels, self.bench.classes, self.runtime.seed)
        fit(network, self.train.inputs, self.train.labels, self.bench.kind, settings, self.runtime, stage="teacher")
        answers = self.bench.labels.clone()
        logits = predict(network, self.joined.inputs[self.n :], self.bench.kind, self.runtime, stage="teacher's labels")
        answers[self.n :] = torch.from_numpy(logits.argmax(1)).to(answers.device)
        self.timings["teacher"] = time.monotonic() - began
        return answers

    def _summary(self, r: int, rows: np.ndarray, combined: np.ndarray, settings: _RoundSettings) -> dict[str, Any]:
        real = combined[: self.n][~self.ignore]
        return {
            "round": r,
            "trained on": len(rows),
            "steps": settings.steps,
            "keeps its label": float((real > 0).mean()),
            "score 99 %": float(np.quantile(real, 0.99)),
            "seconds": round(self.timings[f"round {r}"], 2),
        }

    def _key(self) -> str:
        """What a checkpoint belongs to: the settings, the seed, the data, the device."""
        what = repr((self.how, self.stage, self.runtime.seed, self.joined.fingerprint, self.device.type, torch.__version__))
        return hashlib.blake2b(what.encode(), digest_size=12).hexdigest()
