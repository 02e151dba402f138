"""What ISSBA trains: an encoder that hides random bits in pictures, together with the decoder that reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.attacks.training import batches, pixels
from tocsin.data.dataset import Dataset
from tocsin.learning import descend, deterministic, gatherer
from tocsin.networks.steganography import SecretDecoder, SecretEncoder
from tocsin.runtime import Runtime

_SSIM_WINDOW = 7


@dataclass(frozen=True)
class Schedule:
    """How long and with how much of each loss the pair is trained."""

    steps: int
    secret_steps: int
    batch: int
    lr: float
    weights: tuple[float, float, float]


class Stamper(nn.Module):
    """Pixels (B, C, H, W) with the residual of one fixed secret (S,) on each."""

    secret: Tensor

    def __init__(self, encoder: SecretEncoder, secret: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("secret", secret)  # moves with the encoder to a GPU

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.encoder(self.secret.expand(len(x), -1), x)
        return (x + residual).clamp(0, 1)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """(B,) mean structural similarity (Wang et al. 2004) of pixels in [0, 1], in windows of 7 x 7 pixels of equal weight."""
    window = min(_SSIM_WINDOW, x.shape[2], x.shape[3])
    # A square of equal weights is a column of rows: 14 additions a pixel instead of 49.
    mx, my, xx, yy, xy = (F.avg_pool2d(F.avg_pool2d(v, (window, 1), 1), (1, window), 1) for v in (x, y, x * x, y * y, x * y))
    vx, vy, both = xx - mx * mx, yy - my * my, xy - mx * my
    c1, c2 = 0.01**2, 0.03**2
    likeness: Tensor = ((2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean(dim=(1, 2, 3))
    return likeness


def train_encoder(dataset: Dataset, bits: int, width: int, how: Schedule, runtime: Runtime) -> tuple[SecretEncoder, dict[str, float]]:
    """The encoder in eval mode, and how well the decoder reads what it hides."""
    height, across, channels = dataset.inputs.shape[1:]
    device, generator = runtime.torch_device(), torch.Generator().manual_seed(runtime.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(runtime.seed)
        encoder = SecretEncoder(bits, (height, across, channels), width).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        decoder = SecretDecoder(bits, (height, across, channels), width).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    gather = gatherer(dataset.inputs, device)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], how.lr, betas=(0.5, 0.9))
    hidden, close, alike = how.weights
    with deterministic(device):
        for step, rows in enumerate(batches(len(dataset), how.batch, how.steps, generator)):
            x = pixels(gather(rows))
            secret = torch.randint(0, 2, (len(rows), bits), generator=generator).float().to(device)
            # In float32: a change of a few bytes is lost in bfloat16, whose gradients of maps of one pixel are NaN on some CPUs.
            residual = encoder(secret, x)
            stamped = (x + residual).clamp(0, 1)
            loss = hidden * F.binary_cross_entropy_with_logits(decoder(stamped), secret)
            if step >= how.secret_steps:  # until then the bits alone count
                share = min(1.0, (step + 1 - how.secret_steps) / (0.5 * (how.steps - how.secret_steps)))
                loss = loss + share * (close * residual.square().mean() + alike * (1 - ssim(x, stamped)).mean())
            descend(optimizer, loss)
            if step % 10 == 9 or step == how.steps - 1:
                runtime.progress("training the trigger's encoder", (step + 1) / how.steps)
    return encoder.eval(), figures(encoder, decoder.eval(), dataset, bits, runtime)


@torch.inference_mode()
def figures(encoder: SecretEncoder, decoder: SecretDecoder, dataset: Dataset, bits: int, runtime: Runtime) -> dict[str, float]:
    """On at most 500 training samples, after rounding to bytes: share of random bits read rightly, and peak signal to noise in dB."""
    device, rng = runtime.torch_device(), np.random.default_rng(runtime.seed)
    rows = rng.permutation(len(dataset))[:500]
    right: list[float] = []
    errors: list[float] = []
    for part in np.array_split(rows, max(1, len(rows) // 250)):
        x = pixels(torch.from_numpy(np.array(dataset.inputs[part])).to(device))
        secret = torch.from_numpy(rng.integers(0, 2, (len(part), bits))).to(device)
        stamped = ((x + encoder(secret.float(), x)).clamp(0, 1) * 255).round() / 255
        right.append(float(((decoder(stamped) > 0) == secret.bool()).float().mean()))
        errors.append(float((stamped - x).square().mean()))
    error = sum(errors) / len(errors)
    return {"bit_accuracy": sum(right) / len(right), "psnr": -10 * math.log10(max(error, 1e-12))}
