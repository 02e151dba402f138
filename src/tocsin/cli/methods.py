"""``tocsin methods``: every attack and detector with its settings, read off the registries and their dataclasses."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json as jsonlib
import textwrap
from typing import Any

from tocsin.cli import options
from tocsin.cli.console import say


def command(json: options.Json = False) -> None:
    """List the attacks and the detectors with their settings (for `--set`)."""
    from tocsin.attacks import ATTACKS
    from tocsin.detectors import DETECTORS

    listing = {"attacks": [described(m) for m in ATTACKS.values()], "detectors": [described(m) for m in DETECTORS.values()]}
    if json:
        say(jsonlib.dumps(listing, indent=2))
        return
    for family, methods in listing.items():
        say(family, style="bold")
        for method in methods:
            say(f"  {method['name']}: {method['summary']}")
            for setting in method["settings"]:
                say(f"      {setting['name']}={setting['default']}  {setting['meaning']}")
    say("Give a setting with --set NAME=VALUE.")


def described(method: type[Any]) -> dict[str, Any]:
    """Name, one line and settings of a method's dataclass."""
    from tocsin.params import settings_of

    meaning = sentences(method)
    settings = [
        {"name": f.name, "default": "" if f.default is dataclasses.MISSING else f.default, "meaning": meaning.get(f.name, "")}
        for f in settings_of(method)
    ]
    return {"name": method.name, "summary": (inspect.getdoc(method) or "").partition("\n")[0], "settings": settings}


def sentences(method: type[Any]) -> dict[str, str]:
    """What the string below each field of the class says, base classes included."""
    found: dict[str, str] = {}
    for cls in reversed(method.__mro__):
        if dataclasses.is_dataclass(cls):
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
            assert isinstance(body, ast.ClassDef)
            for field, note in zip(body.body, body.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(note, ast.Expr):
                    found[field.target.id] = " ".join(str(getattr(getattr(note, "value", None), "value", "")).split())
    return found
