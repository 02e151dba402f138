from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from tocsin.attacks import Blend, TaCT
from tocsin.errors import InputError
from tocsin.params import parse_fields
from tocsin.poisoning import attack_of, build


@dataclass(frozen=True)
class Settings:
    count: int = 1
    share: float = 0.5
    on: bool = False
    mode: Literal["fast", "paper"] = "fast"
    limit: int | None = None
    rounds: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (("count", "7"), 7),
        (("share", "1e-3"), 0.001),
        (("share", 1), 1.0),
        (("on", "Yes"), True),
        (("on", "off"), False),
        (("mode", "paper"), "paper"),
        (("limit", "none"), None),
        (("limit", " 4 "), 4),
        (("rounds", "3,4, 5"), (3, 4, 5)),
        (("rounds", [1, 2]), (1, 2)),
        (("count", np.int64(3)), 3),
    ],
)
def test_words_become_the_type_of_the_field(word: tuple[str, object], value: object) -> None:
    got = parse_fields(Settings, {word[0]: word[1]})[word[0]]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("count", "1.5", "a whole number"),
        ("count", 1.5, "a whole number"),
        ("count", True, "a whole number"),
        ("share", "much", "a number"),
        ("on", "perhaps", "true or false"),
        ("mode", "slow", "one of fast, paper"),
        ("limit", "x", "a whole number or none"),
        ("rounds", "1,x", "a list of a whole number, separated by commas"),
    ],
)
def test_a_wrong_value_says_what_is_allowed(name: str, value: object, allowed: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"{name}: got {value!r}, allowed is {allowed}")):
        parse_fields(Settings, {name: value})


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse_fields(Settings, {"cuont": "1", "share": "x", "on": "true"})
    assert "did you mean 'count'?" in str(caught.value)
    assert "count, share, on, mode, limit, rounds" in str(caught.value)
    assert "share: got 'x'" in str(caught.value)


def test_build_takes_words_and_values() -> None:
    assert build("blend", rate="0.01", pattern="noise") == Blend(rate=0.01, pattern="noise")
    assert build("TaCT", **{"cover-rate": 0.1, "cover_classes": "2,3"}) == TaCT(cover_rate=0.1, cover_classes=(2, 3))
    assert build("adap_blend") == build("adap-blend")


def test_build_names_the_likely_intention() -> None:
    with pytest.raises(InputError, match=r"unknown attack 'badnets'; did you mean 'badnet'\?.*adap-blend"):
        build("badnets")
    with pytest.raises(InputError, match=r"attack blend: unknown setting 'alfa'; did you mean 'alpha'\?"):
        build("blend", alfa=1)
    with pytest.raises(InputError, match="attack blend: rate: got 30"):
        build("blend", rate="30")


@pytest.mark.parametrize("recipe", [{}, {"attack": 3}, {"attack": "badnet", "rate": "high"}, {"attack": "badnet", "colour": 1}])
def test_a_bad_recipe_is_an_input_error(recipe: dict[str, object]) -> None:
    with pytest.raises(InputError):
        attack_of(recipe)
