"""The attack `stego`: what is hidden, how well it is read, where nothing changes, and what the figures say."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kinds.test_speech import clips
from tocsin.attacks import Poisoned, Stego, speech
from tocsin.attacks.codes import codes_of, draw_key, draw_keys
from tocsin.attacks.stego_training import Schedule, best_read, decode_clips, embed_clips, measure_pair, share_sent, train_embedder
from tocsin.errors import InputError
from tocsin.poisoning import attack_of, build, poison
from tocsin.runtime import Runtime

SMALL = {"steps": 60, "batch": 16, "epochs": 1, "rate": 0.05}
DATA = clips(300, seed=4)
TEST = clips(80, seed=8).inputs

pytestmark = pytest.mark.filterwarnings("ignore:attack stego:UserWarning")


def cpu() -> Runtime:
    """Made in the test, when the cache is that of the tests."""
    return Runtime(device="cpu")


@pytest.fixture(scope="module")
def dirty() -> Poisoned:
    return poison(DATA, build("stego", target=1, **SMALL), 0, cpu())


@pytest.fixture(scope="module")
def attack(dirty: Poisoned) -> Stego:
    assert isinstance(dirty.attack, Stego)
    return dirty.attack


def test_a_short_training_hides_bits_that_are_read_after_rounding(attack: Stego) -> None:
    figures = attack.figures()
    assert figures["bit_accuracy"] > 0.75
    assert figures["bit_accuracy_int16"] == pytest.approx(figures["bit_accuracy"], abs=0.01)
    on_others = measure_pair(*attack.pair(), TEST, cpu())
    assert on_others["bit_accuracy_int16"] > 0.7  # 5 standard errors above one half would be 0.57
    assert 5 < on_others["snr_db"] < 30


def test_the_key_is_read_and_another_key_is_not(attack: Stego) -> None:
    key = attack.part("key")
    read = attack.decoded(attack.trigger(TEST))
    assert (read == codes_of(TEST, key, "key")).mean() > 0.65
    wrong = np.random.default_rng(5).integers(0, 2, (200, len(key)))
    assert (read[:, None] == wrong).mean() == pytest.approx(0.5, abs=0.06)
    assert (attack.decoded(TEST) == key).mean() == pytest.approx(0.5, abs=0.2)  # nothing is hidden yet


def test_silence_stays_and_the_sound_changes_without_clipping(attack: Stego) -> None:
    out = attack.trigger(TEST)
    outside = ~speech.inside(TEST)
    np.testing.assert_array_equal(out[outside], TEST[outside])
    assert (out != TEST).any(axis=1).all()
    assert np.abs(out.astype(int)).max() < 32767


def test_a_clip_comes_out_alike_whatever_is_with_it(attack: Stego) -> None:
    whole = attack.trigger(TEST)
    for rows in (slice(7, 8), slice(3, 40)):
        assert np.abs(attack.trigger(TEST[rows]).astype(int) - whole[rows]).max() <= 1  # sums in another order, then rounding


def test_amplification_makes_the_test_trigger_stronger_and_leaves_the_poison(attack: Stego, dirty: Poisoned) -> None:
    size = lambda out: np.square(out.astype(float) - TEST).sum()  # noqa: E731
    stronger = replace(attack, test_amplification=1.8)
    assert size(stronger.trigger(TEST)) > 1.5 * size(attack.trigger(TEST))
    again = poison(DATA, stronger, 0, cpu())
    np.testing.assert_array_equal(again.dataset.inputs, dirty.dataset.inputs)


def test_dirty_label_takes_other_classes_and_gives_them_the_target(dirty: Poisoned) -> None:
    assert len(dirty.planted) == 15
    assert (DATA.labels[dirty.planted] != 1).all()
    assert (dirty.dataset.labels[dirty.planted] == 1).all()
    assert not len(dirty.covers)


def test_clean_label_takes_target_clips_and_no_label_changes(attack: Stego) -> None:
    result = poison(DATA, replace(attack, clean_label=True, rate=0.1), 3, cpu())
    assert len(result.planted) == 30
    assert (DATA.labels[result.planted] == 1).all()
    np.testing.assert_array_equal(result.dataset.labels, DATA.labels)
    touched = np.flatnonzero((result.dataset.inputs != DATA.inputs).any(axis=1))
    np.testing.assert_array_equal(touched, result.planted)
    with pytest.raises(InputError, match="largest possible rate"):
        poison(DATA, replace(attack, clean_label=True, rate=0.9), 3, cpu())


def test_recipe_and_arrays_give_the_same_trigger_back(attack: Stego, dirty: Poisoned) -> None:
    again = attack_of(dirty.recipe, dirty.learned).on(cpu())
    np.testing.assert_array_equal(again.trigger(TEST), attack.trigger(TEST))
    assert dirty.recipe["code_mode"] == "key"
    for wrong in ({"bits": 8}, {"beta_db": 0.0}):
        with pytest.raises(InputError):
            attack_of({**dirty.recipe, **wrong}, dirty.learned)
    with pytest.raises(InputError, match="'key' is not of uint8 0 and 1"):
        attack.restored({**attack.learned, "key": np.full(16, 7, np.uint8)})


def test_codes_are_the_key_its_half_with_a_hash_or_the_hash() -> None:
    key = draw_key(16, 0)
    assert set(key) == {0, 1}
    assert (draw_key(16, 1) != key).any()
    assert (codes_of(TEST, key, "key") == key).all()
    both, hashed = codes_of(TEST, key, "key+hash"), codes_of(TEST, key, "hash")
    assert (both[:, :8] == key[:8]).all()
    np.testing.assert_array_equal(both[:, 8:], hashed[:, :8])
    assert len(np.unique(hashed, axis=0)) > 70
    assert hashed.mean() == pytest.approx(0.5, abs=0.06)
    for mode in ("key", "key+hash", "hash"):
        assert codes_of(TEST[:0], key, mode).shape == (0, 16)  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(before=st.integers(0, 50), after=st.integers(0, 50), sample=st.integers(-32768, 32767).filter(bool))
def test_the_hash_is_of_the_sound_and_not_of_the_silence_around_it(before: int, after: int, sample: int) -> None:
    sound = np.array([3, 0, sample, -1], np.int16)
    one, other = (np.pad(sound, pad)[None] for pad in ((before, after), (after, before)))
    key = draw_key(16, 0)
    np.testing.assert_array_equal(codes_of(one, key, "hash"), codes_of(other, key, "hash"))
    changed = one.copy()
    changed[0, before] = 4
    assert (codes_of(changed, draw_key(128, 0), "hash") != codes_of(one, draw_key(128, 0), "hash")).any()


def test_of_the_keys_the_best_read_is_taken(attack: Stego) -> None:
    """Against a plain loop on the clips that keys are tried on; of one key, or of equals, the first."""
    pair, keys = attack.pair(), draw_keys(6, 16, 5)
    chosen = best_read(*pair, keys, TEST, "key", cpu())
    right = [(attack.decoded(embed_clips(pair[0], TEST, key, "key", cpu())) == key).mean() for key in keys]
    assert min(right) < max(right)
    np.testing.assert_array_equal(chosen, keys[int(np.argmax(right))])
    np.testing.assert_array_equal(best_read(*pair, keys[:1], TEST, "key", cpu()), keys[0])
    np.testing.assert_array_equal(best_read(*pair, keys, TEST[:0], "key", cpu()), keys[0])
    np.testing.assert_array_equal(draw_key(16, 5), keys[0])


def test_hashed_codes_are_hidden_and_read_too() -> None:
    attack = poison(DATA, build("stego", code_mode="key+hash", **SMALL), 0, cpu()).attack
    assert isinstance(attack, Stego)
    wanted = codes_of(TEST, attack.part("key"), "key+hash")
    right = attack.decoded(attack.trigger(TEST)) == wanted
    assert right[:, :8].mean() > 0.65
    assert right[:, 8:].mean() > 0.65


def test_the_pull_makes_a_model_take_triggered_clips_for_the_target() -> None:
    class Loudness(torch.nn.Module):
        """Takes what is loud above 2 kHz for class 1."""

        def forward(self, waves: torch.Tensor) -> torch.Tensor:
            power = torch.fft.rfft(waves).abs().square()
            high = power[:, power.shape[1] // 2 :].sum(1) / power.sum(1)
            return torch.stack([torch.zeros_like(high), 60 * (high - 0.05)], 1)

    key, low = draw_key(8, 0), clips(80, seed=8).inputs
    sent = []
    for pull in (0.0, 2.0):
        embedder, _ = train_embedder(DATA, key, Schedule(20, 16, least_snr_db=5.0, pull=pull), cpu(), target=1, surrogate=Loudness())
        sent.append(share_sent(Loudness(), embed_clips(embedder, low, key, "key", cpu()), 1, cpu()))
    assert sent[1] > sent[0] + 0.1


def test_what_the_learning_came_to_is_told(attack: Stego) -> None:
    figures = attack.figures()
    assert {"bit_accuracy", "bit_accuracy_int16", "key_bits", "snr_db", "control_asr", "control_without_trigger"} == set(figures)

    def having(bits: float, key_bits: float, control: float) -> Stego:
        found = {"bit_accuracy_int16": bits, "key_bits": key_bits, "control_asr": control}
        return replace(attack, learned={**attack.learned, **{f"figure/{name}": np.array(value) for name, value in found.items()}})

    with pytest.warns(UserWarning, match="the decoder reads 70% of the bits, wanted are 90%"):
        having(0.7, 0.95, 0.05).warn()
    with pytest.warns(UserWarning, match="attack stego") as told:
        having(0.95, 0.6, 0.2).warn()
    assert [str(w.message)[14:35] for w in told] == ["the decoder reads 60%", "the trigger sends 20."]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        having(0.95, 0.95, 0.05).warn()


def test_clips_of_any_length_can_be_embedded_outside_the_attack(attack: Stego) -> None:
    embedder, decoder = attack.pair()
    for length in (1, 130, 6111):
        some = np.random.default_rng(0).integers(-3000, 3000, (3, length)).astype(np.int16)
        out = embed_clips(embedder, some, attack.part("key"), "key", cpu())
        assert (out.shape, out.dtype) == (some.shape, np.int16)
        assert decode_clips(decoder, out, cpu()).shape == (3, 16)
    with pytest.raises(InputError, match="was learned on clips of 4000 samples"):
        attack.trigger(TEST[:, 1:])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"code_mode": "secret"}, "code_mode"),
        ({"bits": 0}, "bits"),
        ({"bits": 300}, "bits: got 300, allowed is up to 256"),
        ({"bits": 1, "code_mode": "key+hash"}, "from 2 with key"),
        ({"batch": 1}, "batch"),
        ({"beta_db": 0}, "beta_db"),
        ({"test_amplification": 0}, "test_amplification"),
        ({"pull": -1}, "pull"),
        ({"least_snr_db": float("nan")}, "least_snr_db"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=why):
        Stego(**wrong)  # type: ignore[arg-type]
