"""A network with a backdoor that tests of several defences mend."""

from __future__ import annotations

from functools import cache

from tocsin.data.builtin import digits
from tocsin.data.dataset import Dataset
from tocsin.kinds import Kind, kind_of
from tocsin.learning import FitSettings, fit
from tocsin.networks import Classifier, build_network
from tocsin.poisoning import build, poison
from tocsin.runtime import Runtime
from tocsin.victim import Trial

TARGET = 2


@cache
def backdoored() -> tuple[Classifier, Kind, Dataset, Dataset, Dataset, Trial]:
    """A network that knows five digits and a small patch; how it reads, what it was trained on, the reserve, the test and its trial."""
    cpu = Runtime(device="cpu", seed=5)
    train, reserve, test = (part[part.labels < 5] for part in digits(0, 2400, 300, 400))
    five = [Dataset.of_arrays(part.inputs, part.labels, part.classes[:5]) for part in (train, reserve, test)]
    poisoned = poison(five[0], build("badnet", rate=0.05, target=TARGET), 0, cpu)
    kind = kind_of(five[0])
    network = build_network("small", kind.channels, 5, 0)
    fit(network, poisoned.dataset.inputs, poisoned.dataset.labels, kind, FitSettings(epochs=6), cpu)
    return network, kind, poisoned.dataset, five[1], five[2], Trial.of(poisoned.attack, five[2])
