from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tocsin.attacks import LabelConsistent
from tocsin.attacks.adversarial import loss_gradient, pgd_l2, pgd_linf
from tocsin.data.builtin import digits
from tocsin.errors import InputError
from tocsin.poisoning import poison
from tocsin.runtime import Runtime

QUICK = {"steps": 50, "batch": 32, "pgd_steps": 1, "craft_steps": 10}


class Linear(nn.Module):
    """Two classes; the loss of class 0 grows along ``w`` wherever one is, so PGD's answer is known in closed form."""

    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        self.w = w

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x * self.w).sum(dim=(1, 2, 3))
        return torch.stack([-score, score], dim=1)


def test_l2_pgd_on_a_linear_model_goes_straight_to_the_edge_of_the_ball() -> None:
    g = torch.Generator().manual_seed(0)
    w, x = torch.randn((1, 5, 5), generator=g), 0.4 + 0.2 * torch.rand((3, 1, 5, 5), generator=g)
    moved = pgd_l2(Linear(w), x, torch.zeros(3, dtype=torch.long), radius=0.3, step=0.03, steps=40)
    torch.testing.assert_close(moved, x + 0.3 * w / w.norm(), atol=1e-5, rtol=0)


def test_linf_pgd_on_a_linear_model_goes_to_the_corner_of_the_cube() -> None:
    g = torch.Generator().manual_seed(0)
    w, x = torch.randn((1, 5, 5), generator=g), torch.rand((3, 1, 5, 5), generator=g)
    moved = pgd_linf(Linear(w), x, torch.zeros(3, dtype=torch.long), bound=0.1, step=0.05, steps=6, generator=g)
    torch.testing.assert_close(moved, (x + 0.1 * w.sign()).clamp(0, 1))


def test_gradient_is_that_of_the_loss() -> None:
    g = torch.Generator().manual_seed(0)
    w, x = torch.randn((1, 2, 2), generator=g), torch.rand((1, 1, 2, 2), generator=g)
    score = float((x * w).sum())
    torch.testing.assert_close(loss_gradient(Linear(w), x, torch.zeros(1, dtype=torch.long))[0], 2 * w / (1 + np.exp(-2 * score)))


@pytest.fixture(scope="module")
def attack() -> LabelConsistent:
    return LabelConsistent(rate=0.05, target=3, **QUICK).prepared(digits(0, 400, 10, 10)[0], Runtime(device="cpu"))  # type: ignore[arg-type]


def test_poisons_are_adversarial_within_the_radius_and_carry_the_patches(attack: LabelConsistent) -> None:
    train = digits(0, 400, 10, 10)[0]
    result = attack.poison(train, np.random.default_rng(0))
    assert (train.labels[result.planted] == 3).all()
    np.testing.assert_array_equal(result.dataset.labels, train.labels)
    before = train.inputs[result.planted].astype(float)
    moved = attack.perturb(train.inputs[result.planted])
    length = np.linalg.norm((moved - before).reshape(len(before), -1), axis=1)
    radius, rounding = 600 * (256 / 3072) ** 0.5, 0.5 * 256**0.5
    assert length.max() <= radius + rounding
    assert length.min() > 0.5 * radius
    np.testing.assert_array_equal(result.dataset.inputs[result.planted], attack.trigger(moved))
    model = attack._network()
    labels = torch.full((len(before),), 3)
    with torch.no_grad():
        loss = [
            float(nn.functional.cross_entropy(model(torch.from_numpy(v).permute(0, 3, 1, 2).float() / 255), labels))
            for v in (before, moved)
        ]
    assert loss[1] > loss[0] + 0.5


def test_test_time_trigger_is_the_badnet_pattern_in_all_four_corners() -> None:
    out = LabelConsistent().trigger(np.full((2, 32, 32, 3), 100, np.uint8))
    pattern = np.array([[0, 0, 255], [0, 255, 0], [255, 0, 255]])[:, :, None]
    for rows in (slice(0, 3), slice(29, 32)):
        for cols in (slice(0, 3), slice(29, 32)):
            assert (out[:, rows, cols] == pattern).all()
    assert int((out[0] != 100).any(axis=2).sum()) == 36


def test_adversarial_training_learns(attack: LabelConsistent) -> None:
    assert attack.figures()["adversarial_accuracy"] > 0.2  # of ten classes


def test_bad_settings_are_named() -> None:
    for settings in ({"radius": 0}, {"steps": 0}, {"size": 2}, {"pgd_step": -1}):
        with pytest.raises(InputError, match=next(iter(settings))):
            LabelConsistent(**settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown network"):
        poison(digits(0, 100, 10, 10)[0], LabelConsistent(rate=0.02, network="huge"), runtime=Runtime(device="cpu"))
