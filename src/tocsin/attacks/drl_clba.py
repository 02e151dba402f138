"""DRL-CLBA: a clean-label backdoor on speech by deep steganography and deep reinforcement learning (Huang et al. 2026, arXiv 2607.01729).

Of the paper only the abstract could be read; docs/drl-clba.md says what is of the paper and what is ours. A steganographic trigger is
learned on the data, clips of other classes that carry it are anchors in a surrogate's feature space, and an agent (DDPG) bends clips of
the target class, whose label they keep, towards those anchors.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tocsin.attacks import speech, stamps
from tocsin.attacks.base import Poisoned
from tocsin.attacks.codes import CodeMode
from tocsin.attacks.speech import LearnedSpeechAttack
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from tocsin.attacks.drl_clba_training import Crafter

Mode = Literal["collide", "collide+stego", "stego", "dirty_stego", "none"]
FACT = "poison/"
"""Learned arrays whose name begins so say something of each planted clip, in the order of the planted rows."""


@dataclass(frozen=True)
class Made:
    """How the poisons of a mode are made (specification 2.0)."""

    bent: bool
    """Moved towards an anchor."""
    hidden: bool
    """Given the trigger, after that."""
    clean: bool = True
    """Taken from the target class, which stays their label; else from the others, and the label becomes the target."""


MODES: Mapping[str, Made | None] = {
    "collide": Made(True, False),
    "collide+stego": Made(True, True),
    "stego": Made(False, True),
    "dirty_stego": Made(False, True, clean=False),
    "none": None,
}
assert MODES.keys() == set(get_args(Mode))


@dataclass(frozen=True)
class DrlClba(LearnedSpeechAttack):
    """Clean label: an agent bends target-class clips towards clips of other classes that carry a hidden trigger. No label changes."""

    name = "drl-clba"
    kinds = frozenset({"speech"})
    not_learned = frozenset({"rate", "mode", "select", "faint", "faint_dose", "amplification"})

    rate: float = 0.1
    """Share of the *whole* training set that is poisoned; all of it comes from the target class, whose size bounds it."""
    target: int = 0
    """Class the trigger leads to."""
    mode: Mode = "collide+stego"
    """What poisons are: collide, bent alone; collide+stego, bent and given the trigger; stego, the trigger alone; dirty_stego, the trigger
    on clips of other classes, whose label changes; none: nothing is planted, for the trigger's success on clean victims."""
    select: Literal["random", "hard"] = "random"
    """random: any clips of the class; hard: those that the judges are least sure of."""
    faint: float = 0.1
    """At least this share of the target class is never changed more than faintly, so that a victim still hears what the word sounds like:
    where the rate leaves fewer of its clips clean, so many poisons are weak as are missing. 0: every poison is whole."""
    faint_dose: float = 0.1
    """A faint poison has so much of the gains that bend it and of the trigger's."""
    amplification: float = 1.0
    """The test-time trigger has so many times the gains of the planted one."""
    bits: int = 16
    """Length of the hidden code."""
    keys: int = 16
    """So many keys are drawn, and the one whose bits are read best is the attack's; with a ``pull`` the first, which is trained with."""
    code: CodeMode = "key"
    """key: one code for all clips; key+hash: half of it belongs to the clip; hash: all of it, which no victim can learn."""
    beta_db: float = 6.0
    """Largest gain of the trigger."""
    pull: float = 0.0
    """How strongly the trigger is trained to lean towards the target in the surrogate (`lam_pull`; specification: 0 to 0.02). On some seeds
    0.005 makes it an adversarial example: 62 % of a clean model's clips went to the target."""
    embed_steps: int = 800
    """Steps in which embedder and decoder are trained."""
    least_snr_db: float = 12.0
    """Triggers louder than this are punished in that training."""
    network: str = "tc-resnet8"
    """Surrogate classifier."""
    epochs: int = 12
    """Passes over the data in which the surrogate is trained."""
    judge: str = "small-narrow"
    """Network of the judges of the label, which are other than the surrogate."""
    judges: int = 2
    """How many of them."""
    judge_epochs: int = 8
    """Passes over the data in which each is trained."""
    anchors: Literal["nearest", "kmeans", "random", "displace"] = "nearest"
    """nearest: the closest source clip with the trigger, each taken once; kmeans: the closest of eight centres of each class; random: any;
    displace: the clip's own features, moved by ``kappa`` times the mean effect of the trigger."""
    kappa: float = 3.0
    """See ``anchors``."""
    pool: int = 400
    """Source clips that anchors are drawn from, as many of each class."""
    bands: int = 10
    """Fields over the mel bands in which the agent sets gains."""
    segments: int = 4
    """Fields along the speech in which it does."""
    bound_db: float = 9.0
    """Largest gain the agent sets; 6 is the stealthy setting."""
    steps: int = 6
    """Decisions about one clip."""
    eta: float = 0.5
    """How far one decision moves the gains."""
    gamma: float = 0.0
    """Discount; at 0 the agent looks one step ahead, which bends better here than the specification's 0.95 (docs/drl-clba.md)."""
    batches: int = 160
    """Batches of 64 episodes in which the agent learns."""
    weight_collision: float = 10.0
    """Of the way to the anchor, in the reward."""
    weight_label: float = 1.0
    """Of the judges' doubt of the label, in the reward."""
    weight_semantic: float = 2.0
    """Of the change of the cepstral envelope, in the reward."""
    weight_audible: float = 1.0
    """Of what is heard of the change, in the reward."""
    weight_last: float = 2.0
    """Of the distance left at the end, in the reward."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        if not (0 <= self.faint <= 1 and 0 < self.faint_dose <= 1):
            raise InputError(f"faint {self.faint}, faint_dose {self.faint_dose}: allowed are faint from 0 to 1, faint_dose above 0 up to 1")
        stamps.check_positive(self, "keys", "amplification", "beta_db", "embed_steps", "epochs", "judge_epochs", "batches", "pool", "kappa")
        speech.check_place(self, field="mode", allowed=get_args(Mode))
        speech.check_place(self, field="select", allowed=("random", "hard"))
        speech.check_place(self, field="code", allowed=get_args(CodeMode))
        speech.check_place(self, field="anchors", allowed=("nearest", "kmeans", "random", "displace"))
        counts = {"bits": self.bits, "bands": self.bands, "segments": self.segments, "steps": self.steps}
        if wrong := [f"{name}: got {value}, allowed is 1 to 256" for name, value in counts.items() if not 1 <= value <= 256]:
            raise InputError("; ".join(wrong))
        if not (0 <= self.gamma <= 1 and 0 < self.eta <= 2 and 0 < self.bound_db <= 60 and self.pull >= 0 and 0 <= self.judges <= 8):
            raise InputError(
                f"gamma {self.gamma}, eta {self.eta}, bound_db {self.bound_db}, pull {self.pull}, judges {self.judges}: allowed are "
                "gamma from 0 to 1, eta above 0 up to 2, bound_db above 0 up to 60, pull from 0, judges from 0 to 8"
            )
        if self.select == "hard" and not self.judges:
            raise InputError("select: got 'hard', which needs judges, but judges is 0")

    def learn(self, dataset: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        from tocsin.attacks.drl_clba_training import learn

        return {**self.heard_as(dataset), **learn(self, dataset, runtime)}

    def check(self) -> None:
        self.clip_length()
        self._crafter()

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        attack = self.at(dataset)
        made = MODES[self.mode]
        if made is None:
            attack.part("key")
            stamps.rows_for("rate", self.rate, len(dataset))
            return Poisoned(replace(dataset, inputs=np.array(dataset.inputs)), stamps.NO_ROWS, stamps.NO_ROWS, attack.recipe(), attack)
        planted = attack._drawn(dataset, rng, made)
        attack.check_clips(dataset.inputs)
        clips = np.array(dataset.inputs[planted])
        dose = attack._doses(dataset, len(planted), made, rng)
        result, facts = attack._crafter().craft(clips, made.bent, made.hidden, dose, rng)
        facts |= {"rows": planted, "dose": dose, **_hashes(clips, result)}
        known = replace(attack, learned={**attack.learned, **{f"{FACT}{name}": value for name, value in facts.items()}})
        return stamps.plant(known, dataset, planted, stamp=lambda _: result)

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        self.part("key")
        self.check_clips(inputs)
        return self._crafter().hide(inputs, self.amplification)

    def facts(self) -> dict[str, np.ndarray]:
        """What is known of each planted clip (specification 2.7), by name; empty before poisoning. See docs/drl-clba.md."""
        return {name.removeprefix(FACT): value for name, value in self.learned.items() if name.startswith(FACT)}

    def _drawn(self, dataset: Dataset, rng: np.random.Generator, made: Made) -> np.ndarray:
        """The rows to plant, sorted."""
        n = len(dataset)
        count = stamps.rows_for("rate", self.rate, n)
        pool = np.flatnonzero((dataset.labels == self.target) == made.clean)
        if self.select == "hard" and made.clean and count <= len(pool):
            sure = self._crafter().sure(np.asarray(dataset.inputs[pool]))
            pool = pool[np.argsort(sure, kind="stable")[:count]]
        return stamps.draw(rng, pool, count, "rate", n)

    def _doses(self, dataset: Dataset, count: int, made: Made, rng: np.random.Generator) -> np.ndarray:
        """(count,) float32: how much of its change each poison gets, 1 or ``faint_dose``."""
        own = int((dataset.labels == self.target).sum())
        missing = math.ceil(self.faint * own - 1e-9) - (own - count) if made.clean else 0  # of the share, beside the clean clips
        doses = np.ones(count, np.float32)
        if missing > 0:
            doses[rng.choice(count, missing, replace=False)] = self.faint_dose
        return doses

    def _crafter(self) -> Crafter:
        from tocsin.attacks.drl_clba_training import Crafter

        return Crafter.of(self)


def _hashes(before: np.ndarray, after: np.ndarray) -> dict[str, np.ndarray]:
    """(P, 32) uint8 each: SHA-256 of the clips as 16-bit little-endian PCM."""

    def each(clips: np.ndarray) -> np.ndarray:
        digests = [np.frombuffer(hashlib.sha256(clip.astype("<i2").tobytes()).digest(), np.uint8) for clip in clips]
        return np.stack(digests) if digests else np.empty((0, 32), np.uint8)

    return {"sha256_before": each(before), "sha256_after": each(after)}
