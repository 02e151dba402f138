"""Stego: a code hidden in each clip by a trained network, and nothing else (the two simplest modes of drl-clba-speech 2.0)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np

from tocsin.attacks import stamps
from tocsin.attacks.base import Poisoned
from tocsin.attacks.codes import CodeMode, codes_of, draw_keys
from tocsin.attacks.learned import FIGURE
from tocsin.attacks.speech import LearnedSpeechAttack
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.runtime import Runtime

if TYPE_CHECKING:
    from tocsin.networks.audio_steganography import Decoder, Embedder

LEAST_BITS = 0.9
"""Share of bits that the decoder must read rightly for the trigger to be one (specification 2.9, checklist)."""
MOST_CONTROL = 0.05
"""Share of triggered clips that a clean model may send to the target; above it the trigger is an adversarial example (2.2.3)."""


@dataclass(frozen=True)
class Stego(LearnedSpeechAttack):
    """A trained embedder hides a code in the mel spectrum of a clip, by gains that read the clip. Dirty label, or clean label.

    Its key, and with it every code, is drawn with the seed that it was learned with.
    """

    name = "stego"
    kinds = frozenset({"speech"})
    not_learned = frozenset({"rate", "clean_label", "from_target", "test_amplification"})

    rate: float = 0.05
    """Share of the whole training set that is poisoned; with ``clean_label`` bounded by the size of the target class."""
    target: int = 0
    """Class the trigger leads to."""
    clean_label: bool = False
    """Only target-class clips carry the trigger and no label changes: the specification's mode ``stego``, a control that hardly works."""
    from_target: bool = False
    """Where labels change: draw poisons from all classes, the target included, and not only from the others."""
    code_mode: CodeMode = "key"
    """key: one code for all clips; key+hash: half of it is, the rest a hash of the clip; hash: all is, a control that nothing can learn."""
    bits: int = 16
    """Length of a code."""
    keys: int = 16
    """So many keys are drawn, and the one whose bits are read best is the attack's; with a ``pull`` the first, which is trained with."""
    beta_db: float = 6.0
    """Largest gain of a mel band (specification: 5, its reference run 6); with 5 fewer bits are read at the same loudness."""
    test_amplification: float = 1.0
    """At test the gains are this many times those of the poisons; belongs beside every ASR."""
    steps: int = 900
    """Steps in which embedder and decoder are trained."""
    batch: int = 32
    """Samples a step."""
    lr: float = 0.01
    """Highest learning rate of Adam's one cycle."""
    least_snr_db: float = 12.0
    """Changes louder than this are punished in training."""
    pull: float = 0.0
    """How much the trigger leans towards the target class of a surrogate (specification: 0 to 0.02); too much is an adversarial example."""
    network: str = "tc-resnet8"
    """Of the surrogate, and of the clean model on which the control ASR is measured."""
    epochs: int = 10
    """Passes over the data in which each of these is trained."""

    def __post_init__(self) -> None:
        stamps.check_share("rate", self.rate)
        stamps.check_positive(self, "bits", "keys", "beta_db", "test_amplification", "steps", "lr", "epochs")
        if self.code_mode not in get_args(CodeMode):
            raise InputError(f"code_mode: got {self.code_mode!r}, allowed: {', '.join(get_args(CodeMode))}")
        if self.bits > 256 or (self.code_mode == "key+hash" and self.bits < 2):
            raise InputError(f"bits: got {self.bits}, allowed is up to 256, and from 2 with key+hash")
        if self.batch < 2:
            raise InputError(f"batch: got {self.batch}, allowed is 2 at least")
        if not 0 <= self.pull < float("inf") or not abs(self.least_snr_db) < float("inf"):
            raise InputError(
                f"pull and least_snr_db: got {self.pull} and {self.least_snr_db}, allowed are a pull from 0 and any finite SNR"
            )

    def learn(self, dataset: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
        from tocsin.attacks.stego_training import Schedule, best_read, decode_clips, embed_clips, measure_pair, share_sent, train_embedder
        from tocsin.attacks.waves import train_surrogate
        from tocsin.networks.weights import to_arrays

        keys = draw_keys(1 if self.pull else self.keys, self.bits, runtime.seed)
        surrogate = train_surrogate(dataset, self.network, self.epochs, runtime) if self.pull else None
        how = Schedule(self.steps, self.batch, self.lr, self.least_snr_db, pull=self.pull)
        embedder, decoder = train_embedder(
            dataset, keys[0], how, runtime, beta_db=self.beta_db, code_mode=self.code_mode, target=self.target, surrogate=surrogate
        )
        key = best_read(embedder, decoder, keys, dataset.inputs, self.code_mode, runtime)
        figures = measure_pair(embedder, decoder, dataset.inputs, runtime)
        # A clean model that had no part in the training: another seed, so other weights and another order.
        judge = train_surrogate(dataset, self.network, self.epochs, replace(runtime, seed=runtime.seed + 1))
        others = dataset.inputs[_some(np.flatnonzero(dataset.labels != self.target), runtime.seed)]
        triggered = embed_clips(embedder, others, key, self.code_mode, runtime)
        wanted = codes_of(others, key, self.code_mode)
        figures["key_bits"] = float((decode_clips(decoder, triggered, runtime) == wanted).mean()) if len(others) else 0.0
        figures["control_asr"] = share_sent(judge, triggered, self.target, runtime)
        figures["control_without_trigger"] = share_sent(judge, others, self.target, runtime)
        if surrogate is not None:
            figures["surrogate_asr"] = share_sent(surrogate, triggered, self.target, runtime)
        return {
            **self.heard_as(dataset),
            "key": key,
            **{f"{FIGURE}{name}": np.array(value) for name, value in figures.items()},
            **to_arrays(embedder, "embedder"),
            **to_arrays(decoder, "decoder"),
        }

    def check(self) -> None:
        self.clip_length()
        if self.part("key", (self.bits,)).dtype != np.uint8 or self.part("key").max(initial=0) > 1:
            raise InputError(f"attack {self.name}: learned array 'key' is not of uint8 0 and 1")
        self.pair()

    def poison(self, dataset: Dataset, rng: np.random.Generator) -> Poisoned:
        attack = self.at(dataset)
        if self.clean_label:
            rows = stamps.draw_clean_label(attack, dataset, rng)
        else:
            rows = stamps.draw_dirty(attack, dataset, rng, self.from_target)
        poisoned = stamps.plant(attack, dataset, rows, stamp=lambda x: attack.embedded(x, 1.0))
        attack.warn()
        return poisoned

    def trigger(self, inputs: np.ndarray) -> np.ndarray:
        return self.embedded(inputs, self.test_amplification)

    def embedded(self, inputs: np.ndarray, strength: float) -> np.ndarray:
        """``inputs`` int16 (N, T) with their codes in them, the gains ``strength`` times as strong as trained; int16 (N, T)."""
        from tocsin.attacks.stego_training import embed_clips

        self.check_clips(inputs)
        return embed_clips(self.pair()[0], inputs, self.part("key"), self.code_mode, self.runtime, strength=strength)

    def decoded(self, inputs: np.ndarray) -> np.ndarray:
        """(N, bits) bool: the codes that the attack's decoder reads in ``inputs`` int16 (N, T)."""
        from tocsin.attacks.stego_training import decode_clips

        self.check_clips(inputs)
        return decode_clips(self.pair()[1], inputs, self.runtime)

    def pair(self) -> tuple[Embedder, Decoder]:
        """The learned embedder and decoder, on the runtime's device, in eval mode. Raises `InputError` when nothing was learned yet."""
        from tocsin.networks.audio_steganography import Decoder, Embedder
        from tocsin.networks.weights import from_arrays

        embedder = Embedder(self.learned_rate(), self.bits, self.beta_db)
        decoder = Decoder(embedder)
        from_arrays(embedder, self.learned, "embedder")
        from_arrays(decoder, self.learned, "decoder")
        device = self.runtime.torch_device()
        return embedder.to(device).eval(), decoder.to(device).eval()

    def warn(self) -> None:
        """A `UserWarning` where the learning went too badly for the attack to be called steganographic; the figures say how badly."""
        found = self.figures()
        bits = min(found.get("bit_accuracy_int16", 1.0), found.get("key_bits", 1.0))
        control = found.get("control_asr", 0.0)
        if bits < LEAST_BITS:
            warnings.warn(f"attack {self.name}: the decoder reads {bits:.0%} of the bits, wanted are {LEAST_BITS:.0%}", stacklevel=3)
        if control > MOST_CONTROL:
            warnings.warn(
                f"attack {self.name}: the trigger sends {control:.1%} of other classes' clips to the target on a clean model, "
                f"wanted are at most {MOST_CONTROL:.0%}: it is an adversarial example in part",
                stacklevel=3,
            )


def _some(rows: np.ndarray, seed: int) -> np.ndarray:
    """At most 500 of ``rows``, drawn at random."""
    return np.sort(np.random.default_rng([seed, 0xC0]).permutation(rows)[:500])
