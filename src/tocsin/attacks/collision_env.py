"""The feature collision as a sequence of decisions, for agents of stable-baselines3 (specification drl-clba-speech 2.5).

One episode is one clip with its anchor. All episodes of a batch begin and end together, so that the surrogate and the judges see them at
once; there are no worker processes. Needs the extra ``rl``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from tocsin.attacks.collision_scene import Episode, Look, Scene, moved


def reward(scene: Scene, how: Episode, before: Look, after: Look, last: bool) -> Tensor:
    """(B,) of one decision: the difference of worth, and at the end what is left of the way, within -5..5 (2.5.3)."""
    weights = scene.weights
    gained = (how.gamma if how.shaped else 1.0) * after.worth(weights) - before.worth(weights)
    if last:
        gained = gained + weights.last * (0.5 - after.distance)
    return gained.clamp(-5, 5)


class CollisionEnv(VecEnv):
    """``episodes`` episodes at once, each with a clip of ``scene`` that is drawn when they begin (all clips in turn, newly shuffled)."""

    def __init__(self, scene: Scene, how: Episode, episodes: int, seed: int) -> None:
        self.scene, self.how, self.rng = scene, how, np.random.default_rng([seed, 0xE21])
        self.render_mode = None
        state = spaces.Box(-np.inf, np.inf, (scene.state_size,), np.float32)
        super().__init__(episodes, state, spaces.Box(-1.0, 1.0, (scene.grid.size,), np.float32))
        self.waiting = np.empty(0, np.int64)
        self.step_number, self.seconds = 0, 0.0
        self.start: tuple[Tensor, Tensor, Look] | None = None
        self.decision = torch.zeros(episodes, scene.grid.size)

    def reset(self) -> np.ndarray:
        """(episodes, state) float32, of episodes that begin."""
        began = time.perf_counter()
        while len(self.waiting) < self.num_envs:
            self.waiting = np.concatenate([self.waiting, self.rng.permutation(len(self.scene))])
        chosen, self.waiting = self.waiting[: self.num_envs], self.waiting[self.num_envs :]
        device = self.scene.clips.device
        rows, actions = torch.from_numpy(chosen).to(device), torch.zeros(self.num_envs, self.scene.grid.size, device=device)
        with torch.no_grad():
            self.start, self.step_number = (rows, actions, self.scene.look(rows, actions)), 0
            out = self._seen()
        self.seconds += time.perf_counter() - began
        return out

    def step_async(self, actions: np.ndarray) -> None:
        """Notes what was decided: (episodes, size) in -1..1."""
        self.decision = torch.from_numpy(np.asarray(actions, np.float32)).to(self.scene.clips.device)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """States, rewards, whether the episodes ended (then the states are those of the next ones), and their last states."""
        began = time.perf_counter()
        assert self.start is not None, "reset comes first"
        rows, actions, before = self.start
        with torch.no_grad():
            actions = moved(actions, self.decision, self.how.eta)
            after = self.scene.look(rows, actions)
            self.step_number += 1
            last = self.step_number == self.how.steps
            gained = reward(self.scene, self.how, before, after, last).cpu().numpy()
            self.start = rows, actions, after
            seen = self._seen()
        self.seconds += time.perf_counter() - began
        ended = np.full(self.num_envs, last)
        if not last:
            return seen, gained, ended, [{} for _ in range(self.num_envs)]
        # the share of the episode that is over is part of the state, so its end is a true end and no time limit (2.6)
        return self.reset(), gained, ended, [{"terminal_observation": state, "TimeLimit.truncated": False} for state in seen]

    def _seen(self) -> np.ndarray:
        assert self.start is not None
        rows, actions, look = self.start
        return np.asarray(self.scene.state(rows, actions, look, self.step_number / self.how.steps).cpu().numpy())

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Nothing: clips are drawn from the seed given at the beginning."""
        return [seed] * self.num_envs

    def close(self) -> None:
        """Nothing is held open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same for every episode."""
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """For all episodes at once."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """The episodes are no objects with methods of their own."""
        raise NotImplementedError("the episodes of a CollisionEnv are run together")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No."""
        return [False] * self.num_envs
