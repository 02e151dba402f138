"""Settings given by a person (words on a command line, a JSON recipe) made into the fields of a method's dataclass."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from tocsin.errors import InputError

HIDDEN = {"setting": False}
"""``field(metadata=HIDDEN)``: a field of a method that is no setting (what it learned, where it runs)."""

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def settings_of(cls: type) -> list[Field[Any]]:
    """The fields of the dataclass ``cls`` that a person sets."""
    return [f for f in fields(cls) if f.init and f.metadata.get("setting", True)]


def closest(word: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for a slip of the pen, else an empty string."""
    near = difflib.get_close_matches(word, list(allowed), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def parse_fields(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for the dataclass ``cls``: strings are converted by each field's type, other values are checked.

    Understands bool, int, float, str, `Literal`, ``X | None`` (the word "none") and ``tuple[X, ...]`` (comma separated, or
    a list). Raises one `InputError` that lists every unknown name and every value of the wrong type.
    """
    hints = get_type_hints(cls)
    names = [f.name for f in settings_of(cls)]
    parsed: dict[str, Any] = {}
    mistakes: list[str] = []
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in names:
            mistakes.append(f"unknown setting {key!r}{closest(name, names)} (allowed: {', '.join(names)})")
            continue
        try:
            parsed[name] = _convert(value, hints[name])
        except (ValueError, TypeError):
            mistakes.append(f"{key}: got {value!r}, allowed is {describe(hints[name])}")
    if mistakes:
        raise InputError("; ".join(mistakes))
    return parsed


def describe(hint: Any) -> str:
    """The type of a field in words a person uses."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin is tuple:
        return f"a list of {describe(args[0])}, separated by commas"
    if origin in (Union, types.UnionType):
        return " or ".join("none" if a is type(None) else describe(a) for a in args)
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}.get(hint, getattr(hint, "__name__", str(hint)))


def _convert(value: Any, hint: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _one_of(value, args)
    if origin is tuple:
        parts = [p for p in value.split(",") if p.strip()] if isinstance(value, str) else list(value)
        return tuple(_convert(p, args[0]) for p in parts)
    if origin in (Union, types.UnionType):
        return _union(value, args)
    if isinstance(value, str):
        return _PARSERS[hint](value.strip()) if hint in _PARSERS else hint(value)
    return _checked(value, hint)


def _one_of(value: Any, allowed: tuple[Any, ...]) -> Any:
    for option in allowed:
        if value == option or (isinstance(value, str) and value.strip() == str(option)):
            return option
    raise ValueError(value)


def _union(value: Any, options: tuple[Any, ...]) -> Any:
    if type(None) in options and (value is None or (isinstance(value, str) and value.strip().lower() == "none")):
        return None
    for option in options:
        try:
            return _convert(value, option)
        except (ValueError, TypeError):
            continue
    raise ValueError(value)


def _checked(value: Any, hint: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise TypeError(value)
    return value


def _bool(word: str) -> bool:
    if word.lower() not in _TRUE + _FALSE:
        raise ValueError(word)
    return word.lower() in _TRUE


_PARSERS: dict[Any, Any] = {bool: _bool, int: int, float: float, str: str}
