"""The samples of an audit as networks read them: as they are, and where the kind asks for it as copies that were moved."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.detectors.coloured import spoken
from tests.detectors.synthetic import pictures as drawn
from tocsin.data.dataset import Dataset
from tocsin.detectors.workbench import MOST_COPIES, Bench
from tocsin.kinds.speech import SpeechKind

CPU = torch.device("cpu")


def bench_of(data: Dataset, moved: bool = True) -> Bench:
    return Bench.of(data.inputs, data.labels, data, CPU, branch=True, moved=moved)


def test_networks_are_trained_on_moved_clips_and_judge_the_clips_themselves() -> None:
    data = spoken(60, seed=0)
    bench, rows = bench_of(data), torch.arange(60)
    assert bench.copies == MOST_COPIES
    plain, white = bench.feed(rows)
    torch.testing.assert_close(plain, bench.kind.to_tensor(torch.from_numpy(data.inputs)))
    first, again, other = (bench.feed(rows, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # Most are moved, some are not; whatever it is, the whitened maps beside are of the same copy.
    same = (first == plain).flatten(1).all(1)
    assert 0 < same.sum() < 30
    moved, white_moved = bench.feed(rows, torch.Generator().manual_seed(1))
    assert torch.equal((white_moved == white).all(1), (moved == plain).flatten(1).all(1))
    # A clip that was moved still holds what it held.
    assert bench.whitened is not None
    assert len(bench.whitened) == MOST_COPIES * 60
    loud = [part.amax(dim=(2, 3)).flatten() for part in (plain, first)]
    assert np.corrcoef(*loud)[0, 1] > 0.9


def test_finely_cut_clips_are_seen_more_coarsely() -> None:
    data = spoken(20, seed=0)
    fine = Dataset.of_arrays(np.repeat(data.inputs, 2, axis=1), data.labels, kind="speech", rate=16_000)
    bench, rows = bench_of(fine), torch.arange(20)
    pixels, whitened = bench.feed(rows)
    maps = bench.kind.maps(torch.from_numpy(fine.inputs))
    torch.testing.assert_close(pixels, bench.kind.from_maps(bench.kind.shortened(maps)))
    assert pixels.shape[3] == -(-maps.shape[2] // 2)
    assert whitened.shape[1] == pixels.shape[2] * pixels.shape[3]


def test_many_clips_and_pictures_have_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    data = spoken(60, seed=0)
    for most, copies in ((59, 1), (119, 1), (120, 2), (10**6, MOST_COPIES)):
        monkeypatch.setattr(SpeechKind, "moved", most)
        assert bench_of(data).copies == copies
    assert bench_of(data, moved=False).copies == 1
    pictures = drawn(40, seed=0)
    bench, rows = bench_of(pictures), torch.arange(10)
    assert bench.copies == 1
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    for one, other in zip(bench.feed(rows), bench.feed(rows, generator), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(before, generator.get_state())  # nothing is drawn: answers on pictures are what they were
