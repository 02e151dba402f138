"""Searchers for feature collisions to measure the agent against: the same actions, bounds, anchors and judges (specification 2.11).

Each maximises the return an episode would have, clip by clip, and asks the same `Scene`. One question is one query; a step along the
gradient counts as three. What a searcher finds with few queries is what it had found by then when it is given more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tocsin.attacks.collision_scene import Scene, returns

GRADIENT_QUERIES = 3
"""Queries that a step along the gradient counts as."""
_BATCH = 128

Found = dict[int, Tensor]
"""By budget of queries for each clip: the actions (N, size) found."""


class Value:
    """The return of actions for a batch of clips, and the best so far at each budget."""

    def __init__(self, scene: Scene, rows: Tensor, budgets: Sequence[int]) -> None:
        self.scene, self.rows, self.budgets = scene, rows, sorted(budgets)
        with torch.no_grad():
            self.first = scene.look(rows, self.nothing())
        self.best, self.value = self.nothing(), rows.new_full((len(rows),), -torch.inf, dtype=torch.float32)
        self.spent = 0
        self.found: Found = {}

    def nothing(self) -> Tensor:
        """(B, size) no gains."""
        return torch.zeros(len(self.rows), self.scene.grid.size, device=self.rows.device)

    def __call__(self, actions: Tensor, queries: int = 1) -> Tensor:
        """(B,) returns of ``actions`` (B, size), which cost so many queries; notes what was best when a budget is used up."""
        while self.budgets and self.spent + queries > self.budgets[0]:
            self.found[self.budgets.pop(0)] = self.best
        value = returns(self.scene, self.first, self.scene.look(self.rows, actions))
        self.spent += queries
        seen = value.detach()
        self.best = torch.where((seen > self.value)[:, None], actions.detach(), self.best)
        self.value = torch.maximum(seen, self.value)
        return value

    def all_found(self) -> Found:
        """At every budget; what is left over of one counts as used."""
        return {**self.found, **dict.fromkeys(self.budgets, self.best)}


def uniform(value: Value, most: int, generator: torch.Generator) -> None:
    """The best of actions drawn uniformly."""
    for _ in range(most):
        value(2 * torch.rand(value.best.shape, generator=generator).to(value.best.device) - 1)


def evolution(value: Value, most: int, generator: torch.Generator) -> None:
    """(1 + 1) evolution strategy: steps grow by half on success and shrink by a tenth on failure, 0.02 to 0.6, 0.3 at first."""
    size, value_now = torch.full((len(value.rows), 1), 0.3, device=value.best.device), value(value.nothing())
    for _ in range(most - 1):
        tried = (value.best + size * torch.randn(value.best.shape, generator=generator).to(size.device)).clamp(-1, 1)
        better = value(tried) > value_now
        size = torch.where(better[:, None], size * 1.5, size * 0.9).clamp(0.02, 0.6)
        value_now = value.value


def antithetic(value: Value, most: int, generator: torch.Generator) -> None:
    """SPSA: along the difference of a pair of opposite moves of 0.2, with Adam, two queries a step."""
    actions = value.nothing().requires_grad_(True)
    optimizer = torch.optim.Adam([actions], 0.1)
    for _ in range(most // 2):
        move = 0.2 * torch.sign(torch.randn(actions.shape, generator=generator)).to(actions.device)
        up, down = (value((actions.detach() + sign * move).clamp(-1, 1)) for sign in (1, -1))
        actions.grad = -((up - down) / 0.08)[:, None] * move
        optimizer.step()
        actions.data.clamp_(-1, 1)


def gradient(value: Value, most: int, generator: torch.Generator) -> None:
    """Adam along the gradient through surrogate, judges and sound (white box): what the action space holds."""
    actions = value.nothing().requires_grad_(True)
    optimizer = torch.optim.Adam([actions], 0.1)
    for _ in range(most // GRADIENT_QUERIES):
        with torch.enable_grad():
            optimizer.zero_grad()
            (-value(actions, GRADIENT_QUERIES).sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        actions.data.clamp_(-1, 1)


SEARCHERS: Mapping[str, Callable[[Value, int, torch.Generator], None]] = {
    "random": uniform,
    "evolution": evolution,
    "spsa": antithetic,
    "gradient": gradient,
}
"""By name."""


def search(name: str, scene: Scene, budgets: Sequence[int], seed: int) -> Found:
    """What the searcher ``name`` of `SEARCHERS` finds for all clips of ``scene`` at each of the ``budgets``."""
    generator = torch.Generator().manual_seed(seed)
    parts: list[Found] = []
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(scene), device=scene.clips.device), _BATCH):
            value = Value(scene, rows, budgets)
            SEARCHERS[name](value, max(budgets), generator)
            parts.append(value.all_found())
    return {budget: torch.cat([part[budget] for part in parts]) for budget in budgets}


def outcome(scene: Scene, actions: Tensor) -> dict[str, np.ndarray]:
    """(N,) each, of ``actions`` (N, size) on all clips: the way left, D_T / D_0, the return, the judges' certainty, audibility."""
    parts: list[dict[str, np.ndarray]] = []
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(scene), device=scene.clips.device), _BATCH):
            first, last = (scene.look(rows, a) for a in (torch.zeros_like(actions[rows]), actions[rows]))
            values = {"distance": last.distance, "judged": last.judged, "audible": last.audible, "return": returns(scene, first, last)}
            parts.append({name: value.cpu().numpy() for name, value in values.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
