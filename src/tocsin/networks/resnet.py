"""Residual networks: ResNet-18 with a stem for small pictures (He et al. 2016), and a small fast one for two CPU cores."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tocsin.networks.base import Classifier


def conv3(inner: int, outer: int, stride: int = 1) -> nn.Conv2d:
    """3 x 3 convolution without bias (a batch norm follows)."""
    return nn.Conv2d(inner, outer, 3, stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside an identity, or a 1 x 1 projection where the shape changes."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv3(inner, outer, stride), nn.BatchNorm2d(outer)
        self.conv2, self.norm2 = conv3(outer, outer), nn.BatchNorm2d(outer)
        same = stride == 1 and inner == outer
        projection = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        self.shortcut: nn.Module = nn.Identity() if same else projection

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet18(Classifier):
    """3 x 3 stem with stride 1 and no pooling, four stages of two basic blocks, global average pool.

    ``widths`` 64/128/256/512 is the published network; narrower ones are the same code.
    """

    def __init__(self, channels: int, classes: int, widths: tuple[int, int, int, int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv3(channels, widths[0]), nn.BatchNorm2d(widths[0]), nn.ReLU())
        blocks: list[nn.Module] = []
        inner = widths[0]
        for stage, outer in enumerate(widths):
            blocks += [BasicBlock(inner, outer, 1 if stage == 0 else 2), BasicBlock(outer, outer, 1)]
            inner = outer
        self.body = nn.Sequential(*blocks)
        self.head = nn.Linear(inner, classes)

    def stages(self) -> tuple[nn.Module, ...]:
        return self.stem, *self.body

    def pool(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))


class PooledConv(nn.Module):
    """Convolution, pool, batch norm, ReLU: norm and ReLU touch a quarter of the pixels, which is what takes the time on a CPU."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv, self.norm = conv3(inner, outer), nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        # ceil_mode: a side of one pixel stays one, so that very small pictures pass too
        return F.relu(self.norm(F.max_pool2d(self.conv(x), 2, ceil_mode=True)))


class SmallResNet(Classifier):
    """Three pooled convolutions, a basic block after the second and the third, global max pool: the default victim.

    At the default ``width`` about 2,000 to 3,000 pictures of 32 x 32 a second are trained on one CPU core with bfloat16.
    """

    def __init__(self, channels: int, classes: int, width: int = 24) -> None:
        super().__init__()
        self.body = nn.Sequential(
            PooledConv(channels, width),
            PooledConv(width, 2 * width),
            BasicBlock(2 * width, 2 * width, 1),
            PooledConv(2 * width, 4 * width),
            BasicBlock(4 * width, 4 * width, 1),
        )
        self.head = nn.Linear(4 * width, classes)

    def stages(self) -> tuple[nn.Module, ...]:
        return tuple(self.body)

    def pool(self, maps: Tensor) -> Tensor:
        return maps.amax(dim=(2, 3))
