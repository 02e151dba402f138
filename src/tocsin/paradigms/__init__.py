"""The learning settings, one file each. To add one: its file and a line in `_PARADIGMS`.

People call them settings (``--setting``); in the code that word is taken by the values of a method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocsin.errors import InputError
from tocsin.paradigms.base import Paradigm
from tocsin.paradigms.self_supervised import SelfSupervised
from tocsin.paradigms.supervised import Supervised
from tocsin.paradigms.transfer import Transfer
from tocsin.params import closest, parse_fields

_PARADIGMS: tuple[type[Paradigm], ...] = (Supervised, SelfSupervised, Transfer)

PARADIGMS: dict[str, type[Paradigm]] = {cls.name: cls for cls in _PARADIGMS}
"""Name -> class."""

__all__ = ["PARADIGMS", "Paradigm", "SelfSupervised", "Supervised", "Transfer", "paradigm_of"]


def paradigm_of(setting: str | Paradigm, params: Mapping[str, Any]) -> tuple[Paradigm, dict[str, Any]]:
    """The setting, with those of the ``params`` that are its own (``{"transfer.tune": "last"}``), and the params that are left.

    Raises `InputError` for an unknown name, and for values that the setting does not have or that belong to one that is given whole.
    """
    name = setting.name if isinstance(setting, Paradigm) else setting
    if name not in PARADIGMS:
        raise InputError(f"setting: got {name!r}{closest(name, PARADIGMS)}; allowed: {', '.join(PARADIGMS)}")
    mine = {key.partition(".")[2]: value for key, value in params.items() if key.partition(".")[0] == name and "." in key}
    rest = {key: value for key, value in params.items() if not (key.partition(".")[0] == name and "." in key)}
    if not isinstance(setting, Paradigm):
        return PARADIGMS[name](**parse_fields(PARADIGMS[name], mine)), rest
    if mine:
        raise InputError(f"setting {name}: it is given whole, so that {', '.join(mine)} cannot be set beside it")
    return setting, rest
