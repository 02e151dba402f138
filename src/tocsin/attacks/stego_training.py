"""The embedder and the decoder of the steganographic attacks: their training, and what is done with them (drl-clba-speech 2.2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.attacks.codes import CodeMode, codes_of
from tocsin.attacks.gains import to_int16
from tocsin.attacks.training import batches
from tocsin.attacks.waves import heard
from tocsin.data.dataset import Dataset
from tocsin.kinds.speech import SpeechKind, unit
from tocsin.learning import descend, deterministic, gatherer, one_cycle, seeded
from tocsin.networks.audio_steganography import Decoder, Embedder
from tocsin.runtime import Runtime

_NOISE = 0.002  # deviation of what is added before decoding, on the scale of -1..1
_BATCH = 64
_MOST = 500  # clips that figures are measured on
_CHOOSING = 100  # clips that keys are tried on


@dataclass(frozen=True)
class Schedule:
    """How the pair is trained: as specified, without the optional log-spectral distance, faster and longer (0.004 and 400 to 700 steps)."""

    steps: int = 900
    batch: int = 32
    lr: float = 0.01
    """Highest learning rate of Adam's one cycle."""
    least_snr_db: float = 12.0
    """Changes that are louder than this are punished."""
    pull: float = 0.0
    """How strongly the trigger leans towards the target class of a surrogate, every second batch."""


def train_embedder(
    dataset: Dataset,
    key: np.ndarray,
    how: Schedule,
    runtime: Runtime,
    *,
    beta_db: float = 5.0,
    code_mode: CodeMode = "key",
    target: int = 0,
    surrogate: nn.Module | None = None,
) -> tuple[Embedder, Decoder]:
    """An embedder and its decoder, in eval mode on the runtime's device, trained on the clips of ``dataset`` with random codes.

    ``key`` (bits,) uint8 says how long codes are. With ``how.pull`` above 0, clips with the codes of ``key`` and ``code_mode`` are pulled
    towards class ``target`` of ``surrogate`` (waves (B, T) in -1..1 to logits; its weights are frozen). Random from ``runtime.seed``. To
    keep the pair, store its weights with `tocsin.networks.weights.to_arrays`.
    """
    device, generator = runtime.torch_device(), torch.Generator().manual_seed(runtime.seed)
    kind = SpeechKind.of(dataset)
    with seeded(torch.device("cpu"), runtime.seed):
        embedder = Embedder(kind.rate, len(key), beta_db, mean=kind.mean, std=kind.std).to(device)
        decoder = Decoder(embedder).to(device)
    if surrogate is not None:
        surrogate.requires_grad_(False)
    weights = {id(p): p for p in chain(embedder.parameters(), decoder.parameters())}  # the carriers are in both
    optimizer = torch.optim.Adam(weights.values(), how.lr)
    gather = gatherer(dataset.inputs, device)
    with deterministic(device):
        for step, rows in enumerate(batches(len(dataset), how.batch, how.steps, generator)):
            raw = gather(rows)
            waves, mask, _ = heard(raw)
            code = torch.randint(0, 2, (len(rows), len(key)), generator=generator).float().to(device)
            hidden = embedder(waves, mask, code)
            noise = _NOISE * torch.randn(waves.shape, generator=generator).to(device)
            loss = F.binary_cross_entropy_with_logits(decoder(hidden + noise, mask), code)
            quality = 0.1 if step < 0.3 * how.steps else 1.0  # until then the bits alone count, almost
            loss = loss + quality * F.relu(how.least_snr_db - snr_db(waves, hidden)).mean() / 10
            if how.pull and surrogate is not None and step % 2:
                own = torch.from_numpy(codes_of(raw.cpu().numpy(), key, code_mode)).float().to(device)
                goal = torch.full((len(rows),), target, device=device)
                loss = loss + how.pull * F.cross_entropy(surrogate(embedder(waves, mask, own)), goal)
            optimizer.param_groups[0]["lr"] = one_cycle(step, how.steps, how.lr)
            descend(optimizer, loss)
            if step % 10 == 9 or step == how.steps - 1:
                runtime.progress("training the trigger's embedder", (step + 1) / how.steps)
    return embedder.eval(), decoder.eval()


def snr_db(waves: Tensor, changed: Tensor) -> Tensor:
    """(B,) power of ``waves`` (B, T) against that of the change, in dB; 80 where there is none."""
    ratio = (waves.square().sum(1) + 1e-8) / ((changed - waves).square().sum(1) + 1e-8 * waves.square().sum(1) + 1e-8)
    return 10 * ratio.log10()


@torch.inference_mode()
def embed_clips(
    embedder: Embedder, clips: np.ndarray, key: np.ndarray, code_mode: CodeMode, runtime: Runtime, *, strength: float = 1.0
) -> np.ndarray:
    """``clips`` int16 (N, T), of the sampling rate and any length, with their codes (`codes_of`) in them: int16 (N, T), never clipped.

    ``key`` (bits,) uint8; ``strength`` amplifies the gains. What is silence around the sound of a clip stays so. But for rounding,
    a clip comes out alike whatever others are with it.
    """
    out, device = np.empty_like(clips), runtime.torch_device()
    for start in range(0, len(clips), _BATCH):
        part = np.array(clips[start : start + _BATCH])
        waves, mask, _ = heard(torch.from_numpy(part).to(device))
        code = torch.from_numpy(codes_of(part, key, code_mode)).float().to(device)
        out[start : start + _BATCH] = to_int16(part, embedder(waves, mask, code, strength))
    return out


@torch.inference_mode()
def decode_clips(decoder: Decoder, clips: np.ndarray, runtime: Runtime) -> np.ndarray:
    """(N, bits) bool: the codes that the decoder reads in ``clips`` int16 (N, T)."""
    parts, device = [np.empty((0, decoder.head.out_features), bool)], runtime.torch_device()
    for start in range(0, len(clips), _BATCH):
        waves, mask, _ = heard(torch.from_numpy(np.array(clips[start : start + _BATCH])).to(device))
        parts.append((decoder(waves, mask) > 0).cpu().numpy())
    return np.concatenate(parts)


def measure_pair(embedder: Embedder, decoder: Decoder, clips: np.ndarray, runtime: Runtime) -> dict[str, float]:
    """On at most 500 of ``clips`` int16 (N, T), each with a random code.

    ``bit_accuracy`` before and ``bit_accuracy_int16`` after rounding to int16: shares of bits that are read rightly; ``snr_db``: the
    median, after rounding.
    """
    rng, device = np.random.default_rng([runtime.seed, 0xB175]), runtime.torch_device()
    chosen = clips[np.sort(rng.permutation(len(clips))[:_MOST])]
    codes = rng.integers(0, 2, (len(chosen), embedder.bits)).astype(bool)
    right: list[np.ndarray] = []
    rounded: list[np.ndarray] = []
    snr: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(chosen), _BATCH):
            part = np.array(chosen[start : start + _BATCH])
            waves, mask, _ = heard(torch.from_numpy(part).to(device))
            code = codes[start : start + _BATCH]
            hidden = embedder(waves, mask, torch.from_numpy(code).float().to(device))
            written = to_int16(part, hidden)
            right.append((decoder(hidden, mask) > 0).cpu().numpy() == code)
            rounded.append(decode_clips(decoder, written, runtime) == code)
            snr.append(snr_db(waves, torch.from_numpy(written).to(device).float() / 32768).cpu().numpy())
    return {
        "bit_accuracy": float(np.concatenate(right).mean()),
        "bit_accuracy_int16": float(np.concatenate(rounded).mean()),
        "snr_db": float(np.median(np.concatenate(snr))),
    }


def best_read(
    embedder: Embedder, decoder: Decoder, keys: np.ndarray, clips: np.ndarray, code_mode: CodeMode, runtime: Runtime
) -> np.ndarray:
    """(bits,) uint8: that of ``keys`` (K, bits) whose codes the decoder reads best in at most 100 of ``clips`` int16 (N, T).

    Some codes come out fainter than others, whatever the pair was trained for; who plants one takes a clear one. The first of equals.
    """
    if len(keys) == 1 or not len(clips):
        return np.asarray(keys[0])
    chosen = clips[np.sort(np.random.default_rng([runtime.seed, 0xBE57]).permutation(len(clips))[:_CHOOSING])]
    right = []
    for key in keys:
        hidden = embed_clips(embedder, chosen, key, code_mode, runtime)
        right.append((decode_clips(decoder, hidden, runtime) == codes_of(chosen, key, code_mode)).mean())
    return np.asarray(keys[int(np.argmax(right))])


@torch.inference_mode()
def share_sent(model: nn.Module, clips: np.ndarray, target: int, runtime: Runtime) -> float:
    """Share of ``clips`` int16 (N, T) that ``model``, from waves (B, T) in -1..1 to logits, takes for class ``target``; 0 of none."""
    hits, device = 0, runtime.torch_device()
    for start in range(0, len(clips), _BATCH):
        raw = torch.from_numpy(np.array(clips[start : start + _BATCH])).to(device)
        hits += int((model(unit(raw)).argmax(1) == target).sum())
    return hits / max(1, len(clips))
