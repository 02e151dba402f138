"""ASSET once more, of pictures as texture: what a warp or a blur does to fine detail. Ours.

A warp by half a pixel leaves no pattern in pixels that a network of some hundred steps could learn, be it the one whose features the
scouts read or a separator. It turns down the finest detail, which a small network sees at once where it is shown nothing else
(`stats.texture`). So the same steps are taken on texture: a network learns the labels from it, scouts read that network's features and
tell inspected samples from the base set, and what they say is compared between classes. Of a class that nothing but this names,
separators that see texture say which samples it is, and with them two witnesses more: what the samples they put first have in common, and
how badly labels fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from tocsin.detectors.decide import Series, clean_share, cut
from tocsin.detectors.offset import OffsetSettings
from tocsin.detectors.scout import ScoutSettings, beside_labels, shortcut_features, standardised, whole_set
from tocsin.detectors.separation import Parts, SeparatorSettings, looked_up, separate
from tocsin.detectors.sharpen import FOLDS, added_up, by_class, matched_filter
from tocsin.detectors.texture_look import TextureLook
from tocsin.detectors.workbench import Bench
from tocsin.runtime import Runtime, Ticker
from tocsin.stats.outlyingness import select

QUESTION = "detail"
RUNS = 4
"""Networks, each with scouts of its own; a class must stand out by the mean of either half of them. Such networks are small and learn each
by its luck, but a run costs two or three seconds."""
NULL_SCALE = 0.22
"""Scale of the gap's law on clean data: the mean of eighteen development sets, 0.64 at most (docs/asset.md)."""
SHARE = 0.2
"""Of alpha."""
DISTINCT = 75
"""It is asked only where so many distinct samples are held out of the usual class's reserve."""
CONCENTRATED = 0.02
"""Share of the samples that separators are driven away from."""
FALSE_SHARE = 0.3
"""Up to this share of what is flagged may be false."""
CLEAN = 0.9
"""What is clean of a class, as a part of what `decide.clean_share` says, which takes poison that scores low for clean: in eleven
development runs with 65 % of the class clean it said 72 % on average (docs/asset.md)."""
PASSES = 4.0
"""Over the inspected samples, of the network that scouts read."""
_SEPARATORS = SeparatorSettings(
    network="shortcut",
    runs=RUNS,
    cross_fit=True,
    recalibrate=4000,
    offset=OffsetSettings(passes=2.0, least_steps=400, batch=256, lr=1e-2, labelled=True, whole_batch=True, least=2, ceiling=50.0),
)


@dataclass(frozen=True)
class FineDetail:
    """The samples of one audit as texture."""

    bench: Bench
    """`Bench.in_texture` of n inspected samples, then the reserve."""
    parts: Parts
    labels: np.ndarray
    """(n + m,) of the inspected and of the control samples."""
    distinct: np.ndarray
    """(C,) control samples of each class that are no near duplicates of each other."""
    scouts: ScoutSettings
    runtime: Runtime

    logits: Sequence[np.ndarray] = ()
    """Of each run what its scouts say: (n + m,)."""

    @classmethod
    def scouted(
        cls, bench: Bench, parts: Parts, labels: np.ndarray, distinct: np.ndarray, scouts: ScoutSettings, runtime: Runtime
    ) -> FineDetail:
        """With the logits of `RUNS` runs."""
        made = cls(bench, parts, labels, distinct, scouts, runtime)
        return replace(made, logits=[made._scouting(run) for run in range(RUNS)])

    def _scouting(self, run: int) -> np.ndarray:
        """(n + m,) logits of scouts that read a network which learned the inspected samples' labels from their texture."""
        n, base, control = self.parts.inspected, self.parts.base.numpy(), self.parts.control
        seed, which = int(np.random.SeedSequence([self.runtime.seed, 0xDE7, run]).generate_state(1)[0]), f"{run + 1} of {RUNS}"
        read = shortcut_features(self.bench, n, PASSES, seed, self.runtime, f"ASSET: learning fine detail, {which}")
        read = beside_labels(standardised(read, read[base]), self.bench)
        fold = np.random.default_rng([self.runtime.seed, 0xDE7, run]).integers(0, 5, n)[self.parts.groups]
        ticker = Ticker(self.runtime, f"ASSET: scouting fine detail, {which}", len(np.unique(fold)))
        return np.concatenate(whole_set(read[:n], read[base], read[control], fold, self.scouts, seed, self.bench.device, ticker))

    def series(self, among: np.ndarray) -> Series:
        """What the scouts say of the classes ``among`` (C,) bool, for the class test."""
        n = self.parts.inspected
        views = [by_class(values, self.labels, n, self.distinct)[:n] for values in self.logits]
        halves = [np.mean(views[first::2], axis=0).astype(np.float32) for first in (0, 1)]
        rounds = [{f"{QUESTION} {number}": half} for number, half in enumerate(halves, 1)]
        return Series(QUESTION, rounds, null_scale=NULL_SCALE, share=SHARE, among=among)

    def suspects(self, named: Sequence[int], fit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """((n,) bool: which samples of the ``named`` classes are poison, none of a class whose suspects only look like what they show
        (`TextureLook.again`); (n + m,) float32 the scores that this rests on).

        ``fit`` (N + M,): how well labels fit (`misfits.fit_of_labels`).
        """
        n, labels = self.parts.inspected, self.labels
        everyone = np.concatenate([np.arange(n), self.parts.control])
        whitened = self.bench.whitened
        assert whitened is not None
        nobody, rng = np.zeros(n, bool), np.random.default_rng([self.runtime.seed, 0xDE8])

        def together(*views: np.ndarray) -> np.ndarray:
            return added_up(views, labels, n, nobody, self.distinct)

        apart, misfit = np.mean([self._apart(run, values) for run, values in enumerate(self.logits)], axis=0), -fit[everyone]
        textures = whitened[torch.from_numpy(everyone).to(whitened.device)].flatten(1)
        shared = matched_filter(together(apart, misfit), labels, textures, n, rng.integers(0, FOLDS, n)[self.parts.groups], nobody)
        total = together(apart, misfit, shared)
        look = TextureLook(self.bench, fit, self.parts.groups, nobody, self.runtime)
        out, sound = np.zeros(n, bool), ~np.isin(labels[:n], list(named))
        for k in named:
            mine, rest = labels[:n] == k, sound if sound.any() else labels[:n] != k
            scores, theirs = total[:n][mine], total[:n][rest]
            out[mine] = scores >= cut(scores, theirs, CLEAN * clean_share(scores, theirs), FALSE_SHARE)
            again = look.again(k, out)
            out = out & ~mine if again is None else again
        return out, total

    def _apart(self, run: int, logits: np.ndarray) -> np.ndarray:
        """(n + m,) how far separators in texture are driven away from each sample, comparable between classes."""
        n = self.parts.inspected
        chosen = looked_up(select(logits[:n], "top", share=CONCENTRATED))
        scores, _ = separate(self.bench, self.parts, chosen, _SEPARATORS, run, self.runtime)
        return by_class(scores, self.labels, n, self.distinct)
