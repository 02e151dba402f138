"""Anchors, actions, rewards and the agent of DRL-CLBA, on chords and on a surrogate that needs no training."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.kinds.test_speech import clips as chords
from tocsin.attacks.collision import ActionGrid, Pool, choose_anchors, draw_pool, hats
from tocsin.attacks.collision_agent import Training, fresh_policy, own_randomness, roll_out, train_agent
from tocsin.attacks.collision_scene import Episode, Scene, Weights, principal, returns
from tocsin.attacks.collision_search import SEARCHERS, outcome, search
from tocsin.attacks.waves import WaveClassifier, heard
from tocsin.errors import InputError
from tocsin.kinds.speech import SpeechKind
from tocsin.networks.base import Classifier
from tocsin.runtime import Runtime

HZ = 8000
KIND = SpeechKind(HZ, 0.0, 1.0)
CPU = Runtime(device="cpu")


class Spectrum(Classifier):
    """Features are sixteen fixed mixtures of the mean log-mel spectrum: a surrogate that is easy to lead anywhere."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.register_buffer("mix", torch.from_numpy(rng.normal(0, 40**-0.5, (40, 16)).astype(np.float32)))
        self.head = nn.Linear(16, 4)
        nn.init.constant_(self.head.bias, 0.0)
        self.head.weight.data = torch.from_numpy(rng.normal(0, 0.3, (4, 16)).astype(np.float32))

    def stages(self) -> tuple[nn.Module, ...]:
        return ()

    def pool(self, maps: Tensor) -> Tensor:
        mixed: Tensor = maps.mean(dim=(1, 3)) @ self.mix
        return mixed


def listener(seed: int) -> WaveClassifier:
    model = WaveClassifier("tc-resnet8", HZ, 4, seed=0)
    model.body = Spectrum(seed)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def scene(count: int = 24, seed: int = 0, *, weights: Weights | None = None, grid: ActionGrid | None = None, judges: int = 1) -> Scene:
    """Chords that are to sound as if a filter of their own, within the agent's reach, had been put on them."""
    raw = torch.from_numpy(chords(count, seed=seed, length=1600).inputs)
    surrogate, grid = listener(1), grid or ActionGrid(6, 2, 9.0)
    waves, mask, _ = heard(raw)
    goal = torch.from_numpy(np.random.default_rng([seed, 1]).uniform(-1, 1, (count, grid.size)).astype(np.float32))
    anchors = surrogate.seen(grid.apply(KIND, waves, mask, goal))[0]
    usual, _, _ = heard(torch.from_numpy(chords(100, seed=99, length=1600).inputs))
    mean, basis = (torch.from_numpy(a) for a in principal(surrogate.seen(usual)[0].numpy()))
    others = [listener(2 + k) for k in range(judges)]
    return Scene(surrogate, others, grid, weights or Weights(), 0, raw, anchors, mean, basis)


@settings(max_examples=30, deadline=None)
@given(bands=st.integers(1, 12), segments=st.integers(1, 6), bound=st.floats(0.5, 20), seed=st.integers(0, 99))
def test_gains_are_bounded_and_nothing_outside_the_speech_changes(bands: int, segments: int, bound: float, seed: int) -> None:
    grid, rng = ActionGrid(bands, segments, bound), np.random.default_rng(seed)
    raw = torch.from_numpy(chords(3, seed=seed, length=1000).inputs)
    waves, mask, _ = heard(raw)
    wild = torch.from_numpy(rng.normal(0, 3, (3, grid.size)).astype(np.float32))  # beyond -1..1
    gains = grid.gains(KIND, mask, wild)
    assert gains.shape == (3, 40, 1 + 1000 // 128)
    assert float(gains.abs().max()) <= bound * (1 + 1e-5)
    changed = grid.apply(KIND, waves, mask, wild)
    assert torch.equal(changed[~mask], waves[~mask])
    assert not torch.equal(changed, waves)
    torch.testing.assert_close(grid.apply(KIND, waves, mask, torch.zeros(3, grid.size)), waves, atol=1e-5, rtol=0)


def test_fields_lie_where_they_should() -> None:
    mask = torch.zeros(1, 2560, dtype=torch.bool)
    mask[:, 640:1920] = True
    grid = ActionGrid(4, 2, 6.0)
    late_and_high = torch.zeros(1, 4, 2)
    late_and_high[0, 3, 1] = 1
    gains = grid.gains(KIND, mask, late_and_high.flatten(1))[0]
    assert float(gains[-1, -1]) == pytest.approx(6.0)
    assert float(gains[:, :5].abs().max()) == 0  # the first half of the speech's first field
    assert float(gains[:15].abs().max()) == 0
    assert (hats(torch.linspace(0, 1, 50), 7).sum(1) - 1).abs().max() < 1e-6
    with pytest.raises(InputError, match="bound_db"):
        ActionGrid(bound_db=0)


def pool_of(count: int = 12, seed: int = 0) -> Pool:
    rng = np.random.default_rng(seed)
    plain = rng.normal(size=(count, 5)).astype(np.float32)
    return Pool(np.arange(100, 100 + count), np.arange(count) % 3 + 1, plain, plain + np.float32(2))


def test_anchors_are_drawn_as_their_names_say() -> None:
    pool, rng = pool_of(), np.random.default_rng(0)
    features = np.random.default_rng(3).normal(size=(12, 5)).astype(np.float32)
    near, source = choose_anchors("nearest", features, pool, 3.0, rng)
    assert len(set(source.tolist())) == 12  # none twice
    assert source[0] == 100 + np.linalg.norm(pool.triggered - features[0], axis=1).argmin()
    np.testing.assert_array_equal(near, pool.triggered[source - 100])
    many, source = choose_anchors("nearest", np.repeat(features, 3, axis=0), pool, 3.0, rng)
    assert np.bincount(source - 100).tolist() == [3] * 12
    drawn, source = choose_anchors("random", features, pool, 3.0, rng)
    assert sorted(source.tolist()) == sorted(pool.rows.tolist())
    away, source = choose_anchors("displace", features, pool, 3.0, rng)
    np.testing.assert_allclose(away, features + 6, rtol=1e-5)
    assert (source == -1).all()
    middle, _ = choose_anchors("kmeans", features, Pool(pool.rows, np.ones(12, np.int64), pool.plain, pool.triggered), 3.0, rng)
    assert 1 <= len(np.unique(middle, axis=0)) <= 8
    assert many.shape == (36, 5)
    assert drawn.shape == middle.shape == (12, 5)


def test_the_relative_shift_is_that_of_the_trigger() -> None:
    pool = pool_of()
    spread = np.concatenate([np.linalg.norm(own - own.mean(0), axis=1) for own in (pool.plain[pool.labels == k] for k in (1, 2, 3))])
    assert pool.relative_shift() == pytest.approx(2 * 5**0.5 / spread.mean(), rel=1e-5)
    np.testing.assert_allclose(pool.shift(), 2, rtol=1e-5)


def test_the_pool_has_as_many_clips_of_every_other_class() -> None:
    labels = np.repeat([0, 1, 2, 3], [50, 40, 30, 4])
    rows = draw_pool(labels, 0, 24, np.random.default_rng(0))
    assert np.bincount(labels[rows], minlength=4).tolist() == [0, 10, 10, 4]
    assert (np.diff(rows) > 0).all()
    assert len(draw_pool(labels, 0, 999, np.random.default_rng(0))) == 74


TERMS = ("collision", "label", "semantic", "audible", "last")


@pytest.mark.parametrize("only", [*TERMS, "all"])
def test_rewards_telescope_to_the_worth_of_the_last_clip(only: str) -> None:
    from tocsin.attacks.collision_env import CollisionEnv

    small = Weights(1.0, 0.3, 0.2, 0.1, 0.2)  # no reward comes near the bound of 5
    weights = small if only == "all" else Weights(**{name: float(name == only) for name in TERMS})
    world, how, rng = scene(8, weights=weights), Episode(steps=4), np.random.default_rng(2)
    env = CollisionEnv(world, how, 8, seed=0)
    env.reset()
    assert env.start is not None
    rows, _, first = env.start
    total, decisions = np.zeros(8), [rng.uniform(-1, 1, (8, world.grid.size)).astype(np.float32) for _ in range(4)]
    actions = torch.zeros(8, world.grid.size)
    for step, decision in enumerate(decisions):
        env.step_async(decision)
        _, gained, ended, infos = env.step_wait()
        total += gained
        assert ended.all() == (step == 3)
        actions = (actions + 0.5 * torch.from_numpy(decision)).clamp(-1, 1)
    last = world.look(rows, actions)
    np.testing.assert_allclose(total, returns(world, first, last).numpy(), atol=2e-4)
    assert np.abs(total).max() > 1e-4  # the term is there
    terminal = infos[0]["terminal_observation"]
    assert terminal.shape == (world.state_size,)
    assert terminal[-1] == 1  # the episode is over, and the state knows
    still = env.scene.look(rows, actions * 0)
    torch.testing.assert_close(returns(world, still, still), weights.last * -0.5 * torch.ones(8))


def test_a_term_left_out_changes_nothing() -> None:
    world = scene(6)
    rows, actions = torch.arange(6), torch.full((6, world.grid.size), 0.7)
    look = world.look(rows, actions)
    none = Weights(0, 0, 0, 0, 0)
    assert not look.worth(none).any()
    assert not torch.equal(look.worth(Weights()), look.worth(replace(Weights(), label=0.0)))
    deaf = replace(world, judges=())
    assert deaf.look(rows, actions).judged.tolist() == [1] * 6
    assert float(look.distance.min()) > 0
    torch.testing.assert_close(world.look(rows, actions * 0).distance, torch.ones(6))
    assert float(world.look(rows, actions * 0).audible.max()) < 1e-3


def test_shaped_rewards_discount_the_worth_that_comes() -> None:
    from tocsin.attacks.collision_env import reward

    world = scene(5, weights=Weights(1.0, 0.3, 0.2, 0.1, 0.2))
    rows = torch.arange(5)
    before, after = (world.look(rows, torch.full((5, world.grid.size), v)) for v in (0.2, 0.1))
    plain, shaped = (reward(world, Episode(gamma=0.5, shaped=s), before, after, False) for s in (False, True))
    torch.testing.assert_close(plain - shaped, 0.5 * after.worth(world.weights))


def test_the_agent_beats_random_search_at_six_queries_on_clips_it_has_not_seen() -> None:
    easy, grid = Weights(label=0, semantic=0, audible=0), ActionGrid(6, 1, 9.0)
    train, held = (scene(count, seed=seed, weights=easy, grid=grid, judges=0) for count, seed in ((60, 0), (20, 7)))
    training = Training(batches=40, episodes=16, warm_up=200, batch=64, updates=3, look_every=10)
    trained = train_agent(train, Episode(), training, CPU)
    actions, returned = roll_out(held, trained.policy, Episode(), torch.arange(20))
    assert float(actions.abs().max()) <= 1
    found = outcome(held, actions)
    np.testing.assert_allclose(found["return"], returned.numpy(), atol=1e-3)
    drawn = outcome(held, search("random", held, [6], seed=0)[6])
    assert found["return"].mean() > drawn["return"].mean() + 1
    assert found["distance"].mean() < drawn["distance"].mean() - 0.1
    assert (found["return"] > drawn["return"]).mean() >= 0.7
    assert 0 < trained.environment < trained.seconds
    assert trained.queries >= 40 * 16 * 7


def test_the_same_seed_gives_the_same_agent() -> None:
    training, world = Training(batches=2, episodes=8, warm_up=16, batch=16, width=16, updates=2), scene(8)
    first, again, other = (train_agent(world, Episode(), training, replace(CPU, seed=s)).policy.state_dict() for s in (3, 3, 4))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_global_generators_are_given_back() -> None:
    python, legacy, torch_state = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[union-attr] # noqa: NPY002
    with own_randomness(5):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(9)
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)  # type: ignore[arg-type] # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_the_restraint_is_a_gradient_and_nothing_else() -> None:
    policy = fresh_policy(6, 3, 8, restraint=0.5)
    x = torch.randn(5, 6)
    plain = fresh_policy(6, 3, 8)
    plain.load_state_dict(policy.state_dict())
    assert torch.equal(policy(x), plain(x))
    policy(x).sum().backward()
    before = plain[:-2](x)
    (plain(x).sum() + 0.5 * before.square().mean()).backward()
    for one, two in zip(policy.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


@pytest.mark.parametrize("name", list(SEARCHERS))
def test_searchers_find_more_with_more_queries(name: str) -> None:
    world = scene(12, judges=0)
    found = search(name, world, [6, 60], seed=1)
    few, many = (outcome(world, found[budget])["return"].mean() for budget in (6, 60))
    assert many > few
    assert many > outcome(world, torch.zeros(12, world.grid.size))["return"].mean()
    for actions in found.values():
        assert float(actions.abs().max()) <= 1


def test_no_searcher_asks_more_than_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    world, asked = scene(4), []
    plain = Scene.look

    def look(self: Scene, rows: Tensor, actions: Tensor) -> object:
        asked.append(len(rows))
        return plain(self, rows, actions)

    monkeypatch.setattr(Scene, "look", look)
    for name, each in (("random", 1), ("evolution", 1), ("spsa", 1), ("gradient", 3)):
        asked.clear()
        search(name, world, [12], seed=0)
        assert (len(asked) - 1) * each <= 12  # the plain clip is free for all


def test_anchors_must_match_clips() -> None:
    world = scene(4)
    with pytest.raises(InputError, match=r"anchors: got 4 for 3 clips"):
        replace(world, clips=world.clips[:3])
    with pytest.raises(InputError, match="gamma"):
        Episode(gamma=2)
