"""Synthetic speech by espeak-ng, from the optional package espeakng-loader, which carries the library and its voices.

espeak-ng (GPL-3.0 or later) keeps its state for the whole process, and what it says of a word depends on what it said before, even after
it was ended and begun anew. So it runs in a process of its own, this module as a script, which says a list of utterances in order and
ends: the same list gives the same samples, and the library is never loaded into the process that asks.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tocsin.data.npz import read_arrays, write_arrays
from tocsin.errors import InputError

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_SPEED, _PITCH, _RANGE = 1, 3, 4
_UTF8 = 1
_SECONDS, _NOISE = 300.0, 1
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Utterance:
    """One text as one voice says it."""

    text: str
    voice: str
    """A language of espeak-ng, or language+variant: ``en-us+Alicia``."""
    speed: int = 175
    """Words a minute, 80 to 450."""
    pitch: int = 50
    """0 to 100."""
    pitch_range: int = 50
    """How far the pitch moves, 0 (monotone) to 100."""


def variants() -> tuple[str, ...]:
    """Names of the voice variants that come with the library, sorted. Raises `InputError` without it."""
    return tuple(sorted(entry.name for entry in (Path(_loader().get_data_path()) / "voices" / "!v").iterdir()))


def version() -> str:
    """Of the package that carries library and voices. Raises `InputError` without it."""
    from importlib.metadata import version

    _loader()
    return version("espeakng-loader")


def speak(utterances: Sequence[Utterance]) -> tuple[list[np.ndarray], int]:
    """The sounds, int16 (T,) each, and their sampling rate; the same list gives the same samples.

    Raises `InputError` where espeak-ng is not installed, cannot be run here, or does not know a voice.
    """
    _loader()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "said.npz"
        # The child must find this very package, however the parent found it.
        places = {**os.environ, "PYTHONPATH": os.pathsep.join(place for place in sys.path if place)}
        said = json.dumps([asdict(u) for u in utterances])
        command = [sys.executable, "-m", "tocsin.data.espeak", str(out)]
        try:
            done = subprocess.run(command, input=said, env=places, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as why:
            raise InputError(f"espeak-ng could not be run ({type(why).__name__}); is a newer espeakng-loader to be had?") from why
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
            raise InputError(f"espeak-ng could not speak: {last[:200]}")
        arrays = read_arrays(out)
    ends = np.cumsum(arrays["lengths"])
    return np.split(arrays["samples"], ends)[: len(ends)], int(arrays["rate"])


def _loader() -> Any:
    try:
        import espeakng_loader
    except (ImportError, OSError) as why:
        raise InputError(
            f"synthetic speech needs espeak-ng and its voices ({why}); install them with: pip install tocsin[demo-speech]"
        ) from why
    return espeakng_loader


class _Synthesiser:
    """The library, begun once in the script's process."""

    def __init__(self) -> None:
        loader = _loader()
        self._library = ctypes.CDLL(loader.get_library_path())
        self._library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        self._library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        self._library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        self.rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, loader.get_data_path().encode(), _DONT_EXIT)
        if self.rate <= 0:
            raise RuntimeError(f"the library could not begin (code {self.rate})")
        self._heard: list[np.ndarray] = []
        self._callback = _Callback(self._hear)  # held here: the library keeps no count of references
        self._library.espeak_SetSynthCallback(self._callback)

    def _hear(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._heard.append(np.ctypeslib.as_array(samples, (count,)).astype(np.int16))
        return 0

    def say(self, utterance: Utterance) -> np.ndarray:
        """int16 (T,) at ``rate``."""
        self._heard.clear()
        self._library.espeak_ng_SetRandSeed(_NOISE)  # else the clock decides what the breath in a voice is drawn from
        if self._library.espeak_SetVoiceByName(utterance.voice.encode()):
            raise RuntimeError(f"there is no voice {utterance.voice!r}")
        for setting, value in ((_SPEED, utterance.speed), (_PITCH, utterance.pitch), (_RANGE, utterance.pitch_range)):
            self._library.espeak_SetParameter(setting, value, 0)
        text = utterance.text.encode() + b"\0"
        if self._library.espeak_Synth(text, len(text), 0, 1, 0, _UTF8, None, None):
            raise RuntimeError(f"{utterance.text!r} could not be said")
        return np.concatenate(self._heard) if self._heard else np.zeros(0, np.int16)


def _script(out: Path) -> None:
    """Says what is asked for on standard input, as JSON, and writes the sounds to ``out``."""
    synthesiser = _Synthesiser()
    sounds = [synthesiser.say(Utterance(**fields)) for fields in json.load(sys.stdin)]
    lengths = np.array([len(sound) for sound in sounds], np.int64)
    samples = np.concatenate([np.zeros(0, np.int16), *sounds])
    write_arrays(out, {"samples": samples, "lengths": lengths, "rate": np.array(synthesiser.rate, np.int64)})


if __name__ == "__main__":
    _script(Path(sys.argv[1]))
