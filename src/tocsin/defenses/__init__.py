"""Defences that mend a trained network or train another, one file each. To add one: its file and a line in `_DEFENSES`."""

from __future__ import annotations

from tocsin.defenses.abl import ABL
from tocsin.defenses.base import Defense
from tocsin.defenses.dbd import DBD
from tocsin.defenses.fineprune import FinePrune
from tocsin.defenses.finetune import FineTune
from tocsin.defenses.moth import MOTH
from tocsin.defenses.nad import NAD
from tocsin.defenses.neural_cleanse import NeuralCleanse
from tocsin.defenses.none_training import NoneTraining

_DEFENSES: tuple[type[Defense], ...] = (ABL, DBD, FineTune, FinePrune, MOTH, NAD, NeuralCleanse, NoneTraining)

DEFENSES: dict[str, type[Defense]] = {defense.name: defense for defense in _DEFENSES}
"""Every defence by its name."""

__all__ = ["ABL", "DBD", "DEFENSES", "MOTH", "NAD", "Defense", "FinePrune", "FineTune", "NeuralCleanse", "NoneTraining"]
