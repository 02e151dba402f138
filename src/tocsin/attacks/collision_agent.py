"""The agent of DRL-CLBA: DDPG (Lillicrap et al. 2015) by stable-baselines3, and the plain policy that is kept of it.

Specification drl-clba-speech 2.6. Learning needs the extra ``rl``; rolling a stored policy out needs torch alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tocsin.attacks.collision_scene import Episode, Scene, moved, returns
from tocsin.errors import InputError
from tocsin.runtime import Runtime


@dataclass(frozen=True)
class Training:
    """How the agent is trained: the CPU column of 2.6, but for what was measured to be better (docs/drl-clba.md): the actor's learning rate
    (there 3e-4), and as many updates of the actor as of the critic, eight a step (there one and four)."""

    batches: int = 160
    """Batches of episodes."""
    episodes: int = 64
    """Episodes run at once."""
    width: int = 128
    """Of the two hidden layers of actor and critic."""
    actor_lr: float = 1e-3
    critic_lr: float = 1e-3
    replay: int = 60_000
    """Transitions kept."""
    warm_up: int = 1500
    """Transitions with actions at random, before anything is learned."""
    batch: int = 256
    """Transitions an update."""
    updates: int = 8
    """Of the critic for each step of the environment."""
    actor_every: int = 1
    """Updates of the critic for one of the actor."""
    tau: float = 0.01
    """How far the target networks follow at each update of the actor."""
    noise: float = 0.45
    """Deviation of the exploration noise at first; it falls linearly to `quiet`."""
    quiet: float = 0.05
    memory: float = 0.5
    """Share of the noise that is kept from one step to the next."""
    restraint: float = 1e-3
    """Of the mean square of what goes into the actor's tanh, which keeps it from saturating."""
    look_every: int = 20
    """Batches of episodes after which the policy is tried without noise, and kept if it is the best so far."""


@dataclass(frozen=True)
class Trained:
    """What came out, and what it cost."""

    policy: nn.Sequential
    queries: int
    """Questions put to the surrogate."""
    seconds: float
    environment: float
    """Seconds of these that the surrogate, the judges and the sound took; the rest is the agent and its library."""
    returns: tuple[float, ...]
    """Mean return without noise, each time it was looked at."""


class Restrained(torch.autograd.Function):
    """The identity; backwards it adds the gradient of ``weight * mean(x ** 2)``, as if that were a part of the loss."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        """``x`` as it is."""
        ctx.save_for_backward(x)
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient, and that of the mean square."""
        (x,) = ctx.saved_tensors
        return gradients[0] + 2 * ctx.weight / x.numel() * x, None


class Restraint(nn.Module):
    """A layer that does nothing but keep what comes before it small: see `Restrained`."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Restrained.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return out


def first_layer(values: int, width: int) -> nn.Sequential:
    """What reads the state: a linear layer, layer norm, ReLU."""
    return nn.Sequential(nn.Linear(values, width), nn.LayerNorm(width), nn.ReLU())


def fresh_policy(values: int, size: int, width: int, restraint: float = 0.0) -> nn.Sequential:
    """State (B, values) to decision (B, size) in -1..1: two hidden layers, and an end that begins almost at 0."""
    last = nn.Linear(width, size)
    nn.init.uniform_(last.weight, -3e-3, 3e-3)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*first_layer(values, width), nn.Linear(width, width), nn.ReLU(), last, Restraint(restraint), nn.Tanh())


@torch.no_grad()
def roll_out(scene: Scene, policy: nn.Module, how: Episode, rows: Tensor, batch: int = 128) -> tuple[Tensor, Tensor]:
    """The policy without noise on the clips ``rows`` (B,): the gains of the best step of each, (B, size), and their return, (B,).

    The return is that of the episode had it ended there: the worth gained, and the last term. Doing nothing returns 0 without it.
    """
    found, returned = [], []
    for part in torch.split(rows, batch):
        actions = torch.zeros(len(part), scene.grid.size, device=part.device)
        first = look = scene.look(part, actions)
        best, value = actions, torch.full((len(part),), -torch.inf, device=part.device)
        for step in range(how.steps):
            decision = policy(scene.state(part, actions, look, step / how.steps))
            actions = moved(actions, decision, how.eta)
            look = scene.look(part, actions)
            now = returns(scene, first, look)
            best, value = torch.where((now > value)[:, None], actions, best), torch.maximum(now, value)
        found.append(best)
        returned.append(value)
    return torch.cat(found), torch.cat(returned)


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """stable-baselines3 seeds and draws from every global generator there is; they are given back as they were."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


def train_agent(scene: Scene, how: Episode, training: Training, runtime: Runtime) -> Trained:
    """A policy for ``scene``, learned from ``runtime.seed``; where it was best without noise, not where it ended.

    Raises `InputError` without the extra ``rl``.
    """
    try:
        from tocsin.attacks.collision_ddpg import explore
    except ImportError as why:
        raise InputError(f"the agent needs stable-baselines3 and gymnasium ({why}): pip install tocsin[rl]") from why
    began = time.perf_counter()
    with own_randomness(runtime.seed):
        policy, env_seconds, queries, seen = explore(scene, how, training, runtime)
    return Trained(policy, queries, time.perf_counter() - began, env_seconds, seen)
