"""Defences that mend a trained network, one file each. To add one: its file and a line in `_DEFENSES`."""

from __future__ import annotations

from tocsin.defenses.base import Defense
from tocsin.defenses.fineprune import FinePrune
from tocsin.defenses.finetune import FineTune
from tocsin.defenses.moth import MOTH
from tocsin.defenses.nad import NAD
from tocsin.defenses.neural_cleanse import NeuralCleanse

_DEFENSES: tuple[type[Defense], ...] = (FineTune, FinePrune, NAD, NeuralCleanse, MOTH)

DEFENSES: dict[str, type[Defense]] = {defense.name: defense for defense in _DEFENSES}
"""Every defence by its name."""

__all__ = ["DEFENSES", "MOTH", "NAD", "Defense", "FinePrune", "FineTune", "NeuralCleanse"]
