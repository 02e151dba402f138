"""What is peculiar to NAD, beside tests/contract: attention maps, how they are compared, and that they are what is learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.contract.test_defenses import case
from tocsin.defenses import NAD
from tocsin.defenses.nad import answered, attention
from tocsin.errors import InputError
from tocsin.runtime import Runtime

CPU = Runtime(device="cpu", seed=4)


def test_attention_is_the_channels_squares_at_each_place_and_of_length_one() -> None:
    maps = torch.randn(3, 5, 4, 2, generator=torch.Generator().manual_seed(0))
    plain = np.square(maps.numpy()).sum(1).reshape(3, 8)
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(attention(maps).numpy(), plain, rtol=1e-5)
    np.testing.assert_allclose(attention(-7 * maps).numpy(), plain, rtol=1e-5)  # strength and sign are no matter


def test_networks_that_look_alike_are_not_apart_and_the_last_stages_count() -> None:
    generator = torch.Generator().manual_seed(1)
    seen = [torch.randn(2, 3, s, s, generator=generator) for s in (8, 4, 2)]
    shown = [torch.randn(2, 3, s, s, generator=generator) for s in (8, 4, 2)]
    assert float(NAD().apart(seen, seen)) == 0
    each = [np.square(attention(a).numpy() - attention(b).numpy()).sum(1).mean() for a, b in zip(seen, shown, strict=True)]
    assert float(NAD(beta=(1.0, 2.0)).apart(seen, shown)) == pytest.approx(each[1] + 2 * each[2], rel=1e-5)
    assert float(NAD(beta=(9.0, 1.0, 2.0)).apart(seen[1:], shown[1:])) == pytest.approx(each[1] + 2 * each[2], rel=1e-5)


def test_the_student_comes_to_look_where_the_teacher_looks() -> None:
    c = case("image")
    x = c.kind.to_tensor(torch.from_numpy(np.array(c.test.inputs)))
    how = {"epochs": 8, "teacher_epochs": 8, "lr": 0.02}
    teacher = NAD(**how).teaching.repair(c.network, c.train, c.reserve, CPU)  # type: ignore[arg-type]
    student = NAD(**how).repair(c.network, c.train, c.reserve, CPU)  # type: ignore[arg-type]
    alone = NAD(**how, beta=(0.0,)).repair(c.network, c.train, c.reserve, CPU)  # type: ignore[arg-type]
    with torch.inference_mode():
        goal = answered(teacher, x)[1]
        before, after = (float(NAD().apart(answered(network, x)[1], goal)) for network in (c.network, student))
    assert after < 0.7 * before
    # What draws it is a part of the loss: without it the student is fine-tuned as the teacher was.
    same, other = (
        all(torch.equal(a, b) for a, b in zip(network.parameters(), teacher.parameters(), strict=True)) for network in (alone, student)
    )
    assert same
    assert not other


@pytest.mark.parametrize("wrong", [{"beta": ()}, {"beta": (-1.0,)}, {"epochs": 0}, {"teacher_epochs": 0}, {"lr": 0}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        NAD(**wrong)  # type: ignore[arg-type]
