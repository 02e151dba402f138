"""DDPG of stable-baselines3 with the parts of specification 2.6 that the library leaves out; imported only where it is learned with.

What is added to the library's `DDPG`: a learning rate for the actor and one for the critic, layer norm behind the first layer, a small
restraint on the actor's tanh, and noise that remembers and dies down.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DDPG
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.td3.policies import Actor, TD3Policy
from torch import nn

from tocsin.attacks.collision_agent import Training, first_layer, fresh_policy, roll_out
from tocsin.attacks.collision_env import CollisionEnv
from tocsin.attacks.collision_scene import Episode, Scene
from tocsin.runtime import Runtime

_LOOKED_AT = 64
"""Clips on which the policy is tried without noise."""


class FirstLayer(BaseFeaturesExtractor):
    """The layer that reads the state. As published for DDPG the critic sees the action from its second layer on."""

    def __init__(self, observation_space: spaces.Box, features_dim: int = 128) -> None:
        super().__init__(observation_space, features_dim)
        self.body = first_layer(observation_space.shape[0], features_dim)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """(B, values) to (B, width)."""
        out: torch.Tensor = self.body(observations)
        return out


class Policy(TD3Policy):
    """Actor and critic; the actor's last layers are those of `fresh_policy`."""

    def __init__(self, *args: Any, restraint: float, **kwargs: Any) -> None:
        self.restraint = restraint
        super().__init__(*args, **kwargs)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """With layers of our own behind the first."""
        actor = super().make_actor(features_extractor)
        values, size = self.observation_space.shape, self.action_space.shape
        assert values is not None
        assert size is not None
        whole = fresh_policy(values[0], size[0], actor.features_dim, self.restraint)
        actor.mu = nn.Sequential(*list(whole)[3:]).to(actor.device)
        return actor


class Memory(VectorizedActionNoise):
    """Noise ``n <- memory * n + deviation * N(0, 1)`` for all episodes at once, whose deviation falls linearly with every call."""

    def __init__(self, training: Training, size: int, calls: int, seed: int) -> None:
        self.training, self.calls, self.call = training, calls, 0
        self.rng, self.now = np.random.default_rng([seed, 0x0153]), np.zeros((training.episodes, size))
        ActionNoise.__init__(self)

    def __call__(self) -> np.ndarray:
        """(episodes, size) float32."""
        part = min(1.0, self.call / max(1, self.calls))
        deviation = (1 - part) * self.training.noise + part * self.training.quiet
        self.call += 1
        self.now = self.training.memory * self.now + deviation * self.rng.standard_normal(self.now.shape)
        return self.now.astype(np.float32)

    def reset(self, indices: Iterable[int] | None = None) -> None:
        """A new episode begins without memory."""
        self.now[slice(None) if indices is None else list(indices)] = 0


class Agent(DDPG):
    """`DDPG` with two learning rates."""

    rates: tuple[float, float]

    def _update_learning_rate(self, optimizers: Any) -> None:
        for optimizer, rate in zip(optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate


class Best(BaseCallback):
    """Tries the policy without noise now and then, keeps the best, and tells how far learning is."""

    def __init__(self, scene: Scene, how: Episode, training: Training, runtime: Runtime) -> None:
        super().__init__()
        self.scene, self.how, self.training, self.runtime = scene, how, training, runtime
        self.kept: nn.Sequential | None = None
        self.returns: list[float] = []
        self.queries = 0
        rows = np.random.default_rng([runtime.seed, 0x100C]).permutation(len(scene))[:_LOOKED_AT]
        self.rows = torch.from_numpy(rows).to(scene.clips.device)

    def _on_step(self) -> bool:
        batches, rest = divmod(self.n_calls, self.how.steps)
        if rest == 0:
            self.runtime.progress("training the agent", min(1.0, batches / self.training.batches))
            if batches % self.training.look_every == 0:
                self.look()
        return True

    def look(self) -> None:
        """Keeps the policy as it is now, if its mean return is the best so far."""
        policy = policy_of(self.model)
        value = float(roll_out(self.scene, policy, self.how, self.rows)[1].mean())
        self.queries += len(self.rows) * (1 + self.how.steps)
        if not self.returns or value > max(self.returns):
            self.kept = deepcopy(policy)
        self.returns.append(value)


def policy_of(agent: Any) -> nn.Sequential:
    """The actor as the plain network that `fresh_policy` gives, sharing its weights."""
    actor = agent.policy.actor
    return nn.Sequential(*actor.features_extractor.body, *actor.mu)


def explore(scene: Scene, how: Episode, training: Training, runtime: Runtime) -> tuple[nn.Sequential, float, int, tuple[float, ...]]:
    """The best policy found, seconds the environment took, queries asked, and the returns looked at. Seeds every global generator."""
    env = CollisionEnv(scene, how, training.episodes, runtime.seed)
    steps = training.batches * how.steps
    agent = Agent(
        Policy, env, learning_rate=training.critic_lr, buffer_size=training.replay, learning_starts=training.warm_up,
        batch_size=training.batch, tau=training.tau, gamma=how.gamma, train_freq=1, gradient_steps=training.updates,
        action_noise=Memory(training, scene.grid.size, steps, runtime.seed), seed=runtime.seed, device=scene.clips.device,
        policy_kwargs={
            "features_extractor_class": FirstLayer, "features_extractor_kwargs": {"features_dim": training.width},
            "net_arch": [training.width], "restraint": training.restraint,
        },
    )  # fmt: skip
    agent.rates, agent.policy_delay = (training.actor_lr, training.critic_lr), training.actor_every
    best = Best(scene, how, training, runtime)
    agent.learn(steps * training.episodes, best, log_interval=10**9)
    best.look()
    assert best.kept is not None
    queries = best.queries + training.batches * (1 + how.steps) * training.episodes
    return best.kept.cpu().eval(), env.seconds, queries, tuple(best.returns)
