"""What the flagged samples of a class have in common as small convolutions see it, and which further samples of it show the same. Ours.

Of a trigger that differs from sample to sample (Dynamic), or moves, the rounds find a part, and name the class. What sets that part off
from everything clean is then learned directly, which the rounds cannot do: to them poison is rare among all else.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.detectors.decide import cut
from tocsin.detectors.sharpen import by_class
from tocsin.detectors.workbench import SEEDING, Bench, batches, side_by_side, sweep
from tocsin.learning import autocast, descend
from tocsin.networks.shortcut import TrunkNet
from tocsin.runtime import Runtime, Ticker

LEAST = 8
"""Flagged samples of a class that are learned from, at least."""
ROUNDS = 4
"""In each the samples that the last one added are learned from as well; those that were flagged at first stay."""
THIRDS = 3
"""Networks for either half of the clean samples. Each leaves out one part of the flagged ones, which it scores afterwards."""
DOUBT = 0.05
"""A further sample must look more like the flagged ones than this share of these do to networks that were not trained on them; those that
look like clean samples of the class are false alarms, and say nothing."""
MOST = 20_000
"""Samples of other classes that are taken for clean."""
_STEPS, _BATCH, _LR = 150, 64, 0.05


def extended(
    flagged: np.ndarray, bench: Bench, groups: np.ndarray, ignore: np.ndarray, distinct: np.ndarray, runtime: Runtime
) -> np.ndarray:
    """(n,) bool: ``flagged`` (n,) and the samples that look like the flagged ones of their class; never fewer.

    ``bench`` holds the n inspected samples, then the reserve. ``groups`` (n,): near duplicates; ``ignore`` (n,): rows that stay as they are
    and shape nothing; ``distinct`` (C,): different reserve samples of each class. Networks read pixels; labels say who is of a class.
    """
    labels, real = bench.labels.cpu().numpy(), ~ignore
    out = np.array(flagged)
    for k in range(len(distinct)):
        mine = np.flatnonzero((labels[: len(flagged)] == k) & real)
        others = np.flatnonzero((labels[: len(flagged)] != k) & real & ~flagged)
        if flagged[mine].sum() >= LEAST and not flagged[mine].all() and len(others):
            out[mine] |= _of_class(k, mine, flagged[mine], others, labels, bench, groups, distinct, runtime)
    return out


def _of_class(
    k: int,
    mine: np.ndarray,
    first: np.ndarray,
    others: np.ndarray,
    labels: np.ndarray,
    bench: Bench,
    groups: np.ndarray,
    distinct: np.ndarray,
    runtime: Runtime,
) -> np.ndarray:
    """(len(mine),) bool: ``first`` and those of class ``k``'s rows ``mine`` that look like them."""
    n, rng = len(groups), np.random.default_rng([runtime.seed, 0x11CE, k])
    others, reserve, rest = rng.permutation(others)[:MOST], np.arange(n, len(labels)), mine[~first]
    asked = np.concatenate([rest, others, reserve])
    inspected, like, added = len(rest) + len(others), first.copy(), 0
    for r in range(ROUNDS):
        half = np.concatenate([rng.integers(0, 2, n)[groups[asked[:inspected]]], rng.integers(0, 2, len(reserve))])
        odds, own = _odds(
            mine[like], asked, half, len(rest), bench, [runtime.seed, k, r], runtime, f"what the suspects share, {r + 1} of {ROUNDS}"
        )
        odds[: len(rest)][like[~first]] = own[~first[like]]  # what the last round added was trained on
        level = by_class(odds, labels[asked], inspected, distinct)
        limit = cut(level[: len(rest)], level[len(rest) : inspected])
        # A family of the class's own is in its reserve too.
        clean = odds[inspected:][labels[reserve] == k].max(initial=-np.inf)
        alike = own[own > clean]
        if not len(alike):
            break
        seen = odds[: len(rest)]
        new = (level[: len(rest)] >= limit) & (seen > clean) & (seen > np.quantile(alike, DOUBT))
        if int(new.sum()) <= added:  # it grows no more
            break
        like[~first], added = new, int(new.sum())
    return np.asarray(like)


def _odds(
    likes: np.ndarray, asked: np.ndarray, half: np.ndarray, rest: int, bench: Bench, seeds: list[int], runtime: Runtime, stage: str
) -> tuple[np.ndarray, np.ndarray]:
    """(log odds of being like the rows ``likes``, of all rows ``asked``; the same of ``likes``), each by networks not trained on it.

    The first ``rest`` of ``asked`` may be poison and are not trained on; the others are clean: those of one ``half`` are trained on by the
    networks that score the other.
    """
    third = np.random.default_rng([*seeds, 3]).permutation(len(likes)) % THIRDS
    jobs = list(product((0, 1), range(THIRDS)))
    ticker = Ticker(runtime, stage, len(jobs) * _STEPS)
    clean = np.arange(len(asked)) >= rest

    def job(number: int) -> tuple[np.ndarray, np.ndarray]:
        h, t = jobs[number]
        seed = int(np.random.SeedSequence([*seeds, h, t]).generate_state(1)[0])
        network = _trained(bench, likes[third != t], asked[clean & (half != h)], seed, ticker)
        theirs, own = (torch.from_numpy(rows) for rows in (asked[half == h], likes[third == t]))
        return _asked(network, bench, theirs), _asked(network, bench, own)

    odds, own = np.zeros(len(asked)), np.zeros(len(likes))
    for (h, t), (theirs, left_out) in zip(jobs, side_by_side(job, len(jobs), bench.device), strict=True):
        odds[half == h] += theirs / THIRDS
        own[third == t] += left_out / 2
    return odds, own


def _trained(bench: Bench, likes: np.ndarray, clean: np.ndarray, seed: int, ticker: Ticker) -> nn.Module:
    """A network that tells the rows ``likes`` from the rows ``clean``, both sides weighing alike."""
    generator = torch.Generator().manual_seed(seed)
    with SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TrunkNet(bench.kind.channels, 2)
    network.to(bench.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), _LR, momentum=0.9, nesterov=True, weight_decay=5e-4)
    sides = [batches(torch.from_numpy(rows), _BATCH, generator) for rows in (clean, likes)]
    pixels = replace(bench, whitened=None)
    for step in range(_STEPS):
        optimizer.param_groups[0]["lr"] = _LR * min(1.0, (step + 1) / 20) * max(0.1, 1 - step / _STEPS)
        parts = [next(side) for side in sides]
        answers = torch.cat([torch.full((len(part),), side) for side, part in enumerate(parts)]).to(bench.device)
        with autocast(bench.device):
            losses = F.cross_entropy(network(*pixels.feed(torch.cat(parts), generator)).float(), answers, reduction="none")
        there = len(parts[0])
        descend(optimizer, (losses[:there].mean() + losses[there:].mean()) / 2)
        ticker()
    return network


def _asked(network: nn.Module, bench: Bench, rows: Tensor) -> np.ndarray:
    """(B,) log odds that the ``rows`` (B,) are like the flagged ones."""
    if not len(rows):
        return np.zeros(0, np.float32)

    def read(inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
        logits = network(*inputs)
        return torch.as_tensor(logits[:, 1] - logits[:, 0])

    return sweep(read, network, replace(bench, whitened=None), rows, lambda: None)
