"""Labels that do not fit what their samples show, as networks that never saw these samples have it, and what such samples share. Ours.

A dirty-label trigger needs wrong labels. Out-of-fold networks that are too small and too briefly trained to learn a rare trigger tell them,
but wrong and doubtful labels are everywhere. What sets poison apart is that its wrongly labelled samples share a pattern: the matched
filter (`sharpen`), drawn from a class's least fitting samples, adds up what they have in common, and of plain mistakes that is nothing.
So classes are compared by the filter alone: how badly labels fit would name a class for its mistakes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tocsin.detectors.confusion import PretrainSettings, pretrain
from tocsin.detectors.decide import Series
from tocsin.detectors.sharpen import FOLDS, added_up, by_class, matched_filter
from tocsin.detectors.workbench import Bench, side_by_side, sweep
from tocsin.runtime import Runtime, Ticker

LOOKS = 2
"""In each the filter is drawn anew, from what the one before put first; a class must stand out in both."""
PASSES = 3.2
"""Over the samples a network is trained on: enough to know most classes, too few to learn a rare trigger."""
NULL_SCALE = 0.2
"""Scale of the exponential law on clean data of how far a class stands out by what its misfits share, from development runs
(docs/confusion-training.md). Plain mistakes, up to a quarter of a class, come to 0.85 at most, the limit at `SHARE` of 1 % is 1.38."""
SHARE = 0.1
"""Of alpha."""
LEAST_CLASSES = 4
"""Of fewer nobody is named for what misfits share: with two classes all mistakes are of one kind, images of the one that look like the
other, and these do share a pattern (clean zeros and ones of MNIST: a gap of 1.97, the class named)."""
_LR, _BATCH = 0.05, 128


def fit_of_labels(bench: Bench, groups: np.ndarray, least: int, runtime: Runtime, trusted: np.ndarray | None = None) -> np.ndarray:
    """(n + m,) log odds of each sample's own label, by a network that was trained on the other half of all samples.

    ``bench`` holds n inspected samples, then the reserve; near duplicates, equal in ``groups`` (n,), share a half. Networks read pixels
    and are trained for `PASSES`, but ``least`` steps at least; on the rows ``trusted`` (n,) bool and the reserve alone, if given.
    """
    n, plain, again = len(groups), replace(bench, whitened=None), int(trusted is not None)
    known = np.concatenate([np.ones(n, bool) if trusted is None else trusted, np.ones(len(bench.labels) - n, bool)])
    rng = np.random.default_rng([runtime.seed, 0x5403])
    half = np.concatenate([rng.integers(0, 2, n)[groups], rng.integers(0, 2, len(bench.labels) - n)])
    how = PretrainSettings(steps=max(least, round(PASSES * len(half) / 2 / _BATCH)), lr=_LR, batch=_BATCH)
    ticker = Ticker(runtime, "whether labels fit" + ", once more" * again, 2 * how.steps)

    def job(h: int) -> np.ndarray:
        seed = int(np.random.SeedSequence([runtime.seed, 0x5403, h + 2 * again]).generate_state(1)[0])
        taught, asked = np.flatnonzero(known & (half != h)), np.flatnonzero(half == h)
        return odds_of_labels(plain, "shortcut", taught, asked, how, seed, ticker)

    fit = np.zeros(len(half), np.float32)
    for h, theirs in enumerate(side_by_side(job, 2, bench.device)):
        fit[half == h] = theirs
    return fit


def odds_of_labels(
    bench: Bench, network: str, taught: np.ndarray, asked: np.ndarray, how: PretrainSettings, seed: int, tick: Callable[[], None]
) -> np.ndarray:
    """(len(asked),) log odds of the labels of the rows ``asked``, by a ``network`` that was trained on the rows ``taught``."""
    net, generator = bench.network(network, 1.0, seed), torch.Generator().manual_seed(seed)
    pretrain(net, bench, torch.from_numpy(taught), torch.empty(0, dtype=torch.long), how, generator, tick)

    def read(inputs: tuple[Tensor, ...], answers: Tensor) -> Tensor:
        logits, own = net(*inputs).float(), answers[:, None]
        return torch.as_tensor(logits.gather(1, own)[:, 0] - logits.scatter(1, own, -torch.inf).logsumexp(1))

    return sweep(read, net, bench, torch.from_numpy(asked), lambda: None)


def looks(fit: np.ndarray, bench: Bench, groups: np.ndarray, ignore: np.ndarray, distinct: np.ndarray, seed: int) -> Series:
    """What misfits of a class share, (n + m,) float32 in each of `LOOKS`: the matched filter's part by itself ("shared 1" and so on), by
    which classes are compared, and with how badly labels fit ("labels 1"), by which samples are flagged.

    ``fit`` (n + m,) as of `fit_of_labels`; ``ignore`` (n,): rows that shape nothing; ``distinct`` (C,): different reserve samples of each
    class.
    """
    assert bench.whitened is not None
    labels = bench.labels.cpu().numpy()
    rng, white = np.random.default_rng([seed, 0x5A, 0x5403]), bench.whitened[: len(labels)]
    rounds, flagging = filtered(fit, labels, white, groups, ignore, distinct, rng, ("shared", "labels"))
    return Series("labels", rounds, flagging, NULL_SCALE, SHARE)


def filtered(
    fit: np.ndarray,
    labels: np.ndarray,
    whitened: Tensor,
    groups: np.ndarray,
    ignore: np.ndarray,
    distinct: np.ndarray,
    rng: np.random.Generator,
    names: tuple[str, str],
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """In each of `LOOKS` what misfits of a class share in ``whitened`` (n + m, D), and that added to how badly labels fit, (n + m,) float32
    each, called by ``names``; the rest as in `looks`."""
    n, misfit = len(groups), -fit
    alone, summed, last = [], [], misfit
    for r in range(1, LOOKS + 1):
        shared = matched_filter(last, labels, whitened, n, rng.integers(0, FOLDS, n)[groups], ignore)
        last = added_up((misfit, shared), labels, n, ignore, distinct)
        alone.append({f"{names[0]} {r}": by_class(shared, labels, n, distinct).astype(np.float32)})
        summed.append({f"{names[1]} {r}": last})
    return alone, summed
