"""What is peculiar to MOTH, beside tests/contract: which pair has its turn, what is stamped with what, and that classes move apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.defenses.five_digits import TARGET, backdoored
from tocsin.data.dataset import Dataset
from tocsin.defenses import MOTH, FineTune
from tocsin.defenses.moth import Apart, Distances
from tocsin.defenses.neural_cleanse import Inverted
from tocsin.errors import InputError
from tocsin.kinds import kind_of
from tocsin.learning import predict
from tocsin.networks import build_network
from tocsin.runtime import Runtime
from tocsin.victim import measure

CPU = Runtime(device="cpu", seed=5)
QUICK = MOTH(epochs=4, pictures=16, warmup_search=40, first_search=40)


def noise(counts: tuple[int, ...], side: int = 8, channels: int = 3) -> Dataset:
    """Pictures that show nothing, so many of each class."""
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(len(counts)), counts)
    x = rng.integers(0, 200, (len(labels), side, side, channels), dtype=np.uint8)
    return Dataset.of_arrays(x, labels, tuple(f"class {n}" for n in range(len(counts))))


def apart(how: MOTH, data: Dataset, seed: int = 0) -> Apart:
    kind = kind_of(data)
    network = build_network("small", kind.channels, len(data.classes), 0)
    return Apart(how, network, data, kind, Runtime(device="cpu", seed=seed))


def dot(goal: int, side: int = 8, channels: int = 3) -> Inverted:
    """A patch that shows which class it is for: one pixel, in the column of that class."""
    mask = np.zeros((side, side), np.float32)
    mask[0, goal] = 1.0
    return Inverted(mask, np.full((side, side, channels), 255, np.float32), 1.0)


def test_the_backdoor_is_forgotten_the_digits_are_not_and_the_target_has_moved_away() -> None:
    network, kind, train, reserve, test, trial = backdoored()
    mended = QUICK.repair(network, train, reserve, CPU, kind=kind)
    tuned = FineTune(epochs=5, lr=QUICK.lr, batch=QUICK.batch).repair(network, train, reserve, CPU, kind=kind)
    before, alone, after = (measure(one, test, kind, CPU, trial) for one in (network, tuned, mended))
    assert before.asr is not None
    assert alone.asr is not None
    assert after.asr is not None
    assert before.asr > 0.9
    assert alone.asr > 0.9, "the same training without patches leaves it there"
    assert after.asr < 0.3
    assert after.acc > before.acc - 0.05
    rows = np.flatnonzero(reserve.labels != TARGET)
    near, far = (Apart(MOTH(), one, reserve, kind, CPU).seek(rows, TARGET, 60, None) for one in (network, mended))
    assert near is not None
    assert far is None or far.size > 3 * near.size


def test_the_nearest_pairs_have_their_turn_first_then_those_that_gained_most() -> None:
    distances = Distances(4, np.array([0, 1, 3]))
    for goal, size in ((0, 30.0), (1, 2.0), (3, 10.0)):
        distances.began(goal, size)
    order = []
    for size in (18.0, 16.0, 36.0):  # of (1, 3), which was 12; of (0, 1), which was 32; of (0, 3), which was 40
        order.append(distances.gained_most())
        distances.measured(order[-1], size)
    assert order == [(1, 3), (0, 1), (0, 3)]
    assert distances.gain == {(1, 3): pytest.approx(0.5), (0, 1): pytest.approx(-0.5), (0, 3): pytest.approx(-0.1)}
    assert distances.gained_most() == (1, 3)
    distances.measured((1, 3), 17.0)  # from 18: less than it was
    distances.measured((0, 1), 32.0)  # twice what it was
    assert distances.gained_most() == (0, 1)
    distances.measured((0, 1), None)
    assert distances.gained_most() == (1, 3)
    rng = np.random.default_rng(0)
    assert {distances.drawn(rng) for _ in range(60)} == {(0, 1), (0, 3), (1, 3)}


def test_the_warm_up_stamps_half_of_the_other_classes_and_the_pair_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    data, sought = noise((9, 7, 12, 5)), []

    def seek(self: Apart, rows: np.ndarray, goal: int, passes: int, start: Inverted | None) -> Inverted:
        sought.append((sorted(set(data.labels[rows].tolist())), goal, passes, start is not None))
        return dot(goal)

    monkeypatch.setattr(Apart, "seek", seek)
    turn = apart(MOTH(warmup=2, every=2, stamped=0.3, warmup_search=9, first_search=8, later_search=7, chance=1.0), data)
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    labels, raw = data.labels[rows.numpy()], torch.from_numpy(data.inputs[rows.numpy()])
    for step in range(8):  # two for each class
        out = turn(rows, raw).numpy()
        hit = (out != raw.numpy()).any(axis=(1, 2, 3))
        goal, others = step // 2, labels != step // 2
        assert hit.sum() == round(others.sum() / 2)
        assert others[hit].all()
        expected = raw.numpy().copy()
        expected[hit, 0, goal] = 255
        np.testing.assert_array_equal(out, expected)
    assert sought == [([c for c in range(4) if c != goal], goal, 9, False) for goal in range(4)]
    sought.clear()
    seen = set[tuple[int, int]]()
    for step in range(20):
        out = turn(rows, raw).numpy()
        one, two = turn.pair
        expected, share = raw.numpy().copy(), int(np.ceil(0.3 * min((labels == one).sum(), (labels == two).sum())))
        hit = (out != raw.numpy()).any(axis=(1, 2, 3))
        for source, goal in ((one, two), (two, one)):
            assert (hit & (labels == source)).sum() == share
            expected[hit & (labels == source), 0, goal] = 255
        np.testing.assert_array_equal(out, expected)
        if step % 2 == 0:  # sought to and fro, and anew only where it was sought before
            passes, again = (7, True) if turn.pair in seen else (8, False)
            assert sought[-2:] == [([one], two, passes, again), ([two], one, passes, again)]
            seen.add(turn.pair)
    assert len(sought) == 20
    assert len(seen) > 2


def test_a_patch_that_is_too_large_or_was_not_found_is_not_stamped(monkeypatch: pytest.MonkeyPatch) -> None:
    data, rows = noise((6, 6)), torch.arange(12)
    raw = torch.from_numpy(data.inputs)
    wide = np.zeros((8, 8), np.float32)
    wide[:6] = 1.0  # three quarters of the picture
    for found, stamped in ((Inverted(wide, dot(0).pattern, 1.0), False), (Inverted(wide * 0.99, dot(0).pattern, 1.0), True), (None, False)):
        monkeypatch.setattr(Apart, "seek", lambda *_, found=found: found)
        turn = apart(MOTH(), data)
        for _ in range(4):  # the warm-up, and two more
            assert bool((turn(rows, raw) != raw).any()) == stamped


def test_a_search_gives_no_patch_that_does_not_work() -> None:
    """A network that always says class 0 is led there by anything, and elsewhere by nothing."""
    data = noise((6, 6))
    turn = apart(MOTH(), data)
    with torch.no_grad():
        turn.network.head.weight.zero_()
        turn.network.head.bias.copy_(torch.tensor([50.0, -50.0]))
    before = {key: value.clone() for key, value in turn.network.state_dict().items()}
    found = turn.seek(np.arange(6, 12), 0, 40, None)
    assert found is not None
    assert found.success == 1
    assert turn.seek(np.arange(6), 1, 5, None) is None
    assert all(torch.equal(value, before[key]) for key, value in turn.network.state_dict().items())


@pytest.mark.parametrize(("counts", "side", "channels"), [((20, 15), 8, 1), ((12, 0, 9), 13, 3)])
def test_two_classes_are_enough_and_one_may_have_no_pictures(counts: tuple[int, ...], side: int, channels: int) -> None:
    data = noise(counts, side, channels)
    kind = kind_of(data)
    network = build_network("small", channels, len(counts), 0)
    how = MOTH(epochs=3, batch=8, warmup_search=3, first_search=3, later_search=2, success=0.1)
    mended = how.repair(network, data, data, CPU)
    assert np.isfinite(predict(mended, data.inputs, kind, CPU)).all()
    alone = data[data.labels == 0]
    with pytest.raises(InputError, match="at least two classes are needed, got 1"):
        how.repair(network, data, alone, CPU)


def test_the_warm_up_has_passes_of_its_own() -> None:
    data = noise((10, 10, 10))
    assert apart(MOTH(epochs=2, batch=8, warmup=1), data).training.epochs == 2 + 1  # 3 steps, and 3 to a pass
    assert apart(MOTH(epochs=2, batch=8, warmup=3), data).training.epochs == 2 + 3
    assert apart(MOTH(epochs=2, batch=500, warmup=1), data).training.epochs == 2 + 3  # one step to a pass
    assert apart(MOTH(epochs=2, warmup=0), data).training == replace(MOTH(epochs=2).training, epochs=2)


WRONG = [
    {"epochs": 0},
    {"every": 0},
    {"chance": 1.5},
    {"stamped": 0.0},
    {"largest": 2.0},
    {"later_search": 0},
    {"pictures": 1},
    {"warmup": -1},
]


@pytest.mark.parametrize("wrong", [*WRONG, {"success": 1.0}, {"lr": 0}, {"search_lr": 0}, {"patience": 0}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        MOTH(**wrong)  # type: ignore[arg-type]
