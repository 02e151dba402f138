"""The parts of DRL-CLBA that are learned, and what is made with them: surrogate, judges, embedder, anchors, agent, poisons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from tocsin.attacks import speech
from tocsin.attacks import stego_training as stego
from tocsin.attacks.codes import codes_of, draw_keys
from tocsin.attacks.collision import ActionGrid, Pool, choose_anchors, draw_pool
from tocsin.attacks.collision_agent import Training, fresh_policy, roll_out, train_agent
from tocsin.attacks.collision_scene import PRINCIPAL, Episode, Scene, Weights, principal
from tocsin.attacks.gains import to_int16
from tocsin.attacks.learned import FIGURE
from tocsin.attacks.waves import WaveClassifier, confidences, train_surrogate
from tocsin.data.dataset import Dataset
from tocsin.errors import InputError
from tocsin.kinds.speech import unit
from tocsin.networks.audio_steganography import Embedder
from tocsin.networks.weights import from_arrays, to_arrays
from tocsin.runtime import Runtime
from tocsin.stats import audibility

if TYPE_CHECKING:
    from tocsin.attacks.drl_clba import DrlClba

_MOST = 1000  # clips from which the principal directions come
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Crafter:
    """The learned parts at work on one device."""

    attack: DrlClba
    """Its settings are read, not what it has learned."""
    runtime: Runtime
    key: np.ndarray
    surrogate: WaveClassifier
    judges: tuple[WaveClassifier, ...]
    embedder: Embedder
    pool: Pool
    mean: np.ndarray
    basis: np.ndarray
    policy: nn.Sequential | None
    """None before the agent has learned."""

    @classmethod
    def of(cls, attack: DrlClba) -> Crafter:
        """From the arrays that the attack learned. Raises `InputError` unless they are all there, of their shapes, and finite."""
        hz, device = attack.learned_rate(), attack.runtime.torch_device()
        classes = attack.part("surrogate/body.head.bias").size
        if attack.part("key", (attack.bits,)).dtype != np.uint8:
            raise InputError(f"attack {attack.name}: learned array 'key' is not uint8")

        def restored(network: str, prefix: str) -> WaveClassifier:
            model = WaveClassifier(network, hz, classes, seed=0)
            from_arrays(model, attack.learned, prefix)
            return model.to(device).eval().requires_grad_(False)

        surrogate = restored(attack.network, "surrogate")
        judges = tuple(restored(attack.judge, f"judge{k}") for k in range(attack.judges))
        embedder = Embedder(hz, attack.bits, attack.beta_db)
        from_arrays(embedder, attack.learned, "embedder")
        wide, rows, basis = surrogate.body.head.in_features, attack.part("pool/rows"), attack.part("basis")
        if rows.ndim != 1 or rows.dtype != np.int64 or basis.ndim != 2 or len(basis) != wide:
            raise InputError(f"attack {attack.name}: learned arrays 'pool/rows' and 'basis' are not of the shapes they have when learned")
        shapes = {"labels": (len(rows),), "plain": (len(rows), wide), "triggered": (len(rows), wide)}
        pool = Pool(rows, *(attack.part(f"pool/{name}", shape) for name, shape in shapes.items()))
        mean = attack.part("mean", (wide,))
        values = 3 * basis.shape[1] + classes + attack.bands * attack.segments + 1
        policy = fresh_policy(values, attack.bands * attack.segments, Training().width)
        from_arrays(policy, attack.learned, "actor")
        for array in (mean, basis, pool.plain, pool.triggered):
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise InputError(f"attack {attack.name}: learned arrays are not float32, or not finite")
        parts = (surrogate, judges, embedder.to(device).eval(), pool, mean, basis, policy.to(device).eval())
        return cls(attack, attack.runtime, attack.part("key"), *parts)

    def hide(self, clips: np.ndarray, strength: float = 1.0) -> np.ndarray:
        """``clips`` int16 (N, T) with the trigger."""
        return stego.embed_clips(self.embedder, clips, self.key, self.attack.code, self.runtime, strength=strength)

    def sure(self, clips: np.ndarray) -> np.ndarray:
        """(N,) float32: mean over the judges of the probability they give the target for ``clips`` int16 (N, T); 1 without judges."""
        each = [confidences(j, clips, self.attack.target, self.runtime) for j in self.judges]
        return np.asarray(np.mean(each, axis=0, dtype=np.float32)) if each else np.ones(len(clips), np.float32)

    def scene(self, clips: np.ndarray, rng: np.random.Generator) -> tuple[Scene, np.ndarray]:
        """``clips`` int16 (N, T) of the target with their anchors, and from which source row each anchor is (N,), or -1."""
        attack, device = self.attack, self.runtime.torch_device()
        own = features_of(self.surrogate, clips, self.runtime)
        anchors, source = choose_anchors(attack.anchors, own, self.pool, attack.kappa, rng)
        tensors = (torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in (clips, anchors, self.mean, self.basis))
        return Scene(self.surrogate, self.judges, grid_of(attack), weights_of(attack), attack.target, *tensors), source

    def craft(
        self, clips: np.ndarray, bent: bool, hidden: bool, dose: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Poisons int16 (N, T) from ``clips`` int16 (N, T), and facts of each (2.7): see docs/drl-clba.md.

        ``dose`` (N,) float32 scales a clip's gains, those that bend it and the trigger's.
        """
        facts, result = {"sure_before": self.sure(clips)}, clips.copy()
        if bent:
            result, more = self._bend(clips, dose, rng)
            facts |= more
        facts["code"] = codes_of(result, self.key, self.attack.code) if hidden else np.empty((len(clips), 0), np.uint8)
        if hidden:
            for strength in np.unique(dose):
                part = dose == strength
                result[part] = self.hide(result[part], float(strength))
        return result, {**facts, "sure_after": self.sure(result), **heard_of(clips, result, self.surrogate.kind.rate)}

    def _bend(self, clips: np.ndarray, dose: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        assert self.policy is not None
        scene, source = self.scene(clips, rng)
        rows = torch.arange(len(scene), device=scene.clips.device)
        actions, _ = roll_out(scene, self.policy, episode_of(self.attack), rows)
        actions = actions * torch.from_numpy(dose).to(actions)[:, None]
        out = np.empty_like(clips)
        with torch.no_grad():
            for part in torch.split(rows, _BATCH):
                out[part.cpu().numpy()] = to_int16(clips[part.cpu().numpy()], scene.waves(part, actions[part]))
        anchors = scene.anchors.cpu().numpy()
        first, last = (np.linalg.norm(features_of(self.surrogate, x, self.runtime) - anchors, axis=1) for x in (clips, out))
        return out, {"action": actions.cpu().numpy(), "anchor": source, "distance_before": first, "distance_after": last}


def grid_of(attack: DrlClba) -> ActionGrid:
    """What the agent may do."""
    return ActionGrid(attack.bands, attack.segments, attack.bound_db)


def weights_of(attack: DrlClba) -> Weights:
    """Of the reward."""
    return Weights(attack.weight_collision, attack.weight_label, attack.weight_semantic, attack.weight_audible, attack.weight_last)


def episode_of(attack: DrlClba) -> Episode:
    """How long it may."""
    return Episode(attack.steps, attack.eta, attack.gamma)


@torch.no_grad()
def features_of(model: WaveClassifier, clips: np.ndarray, runtime: Runtime) -> np.ndarray:
    """(N, F) float32: penultimate features of ``clips`` int16 (N, T)."""
    device = runtime.torch_device()
    parts = (torch.from_numpy(np.array(clips[start : start + _BATCH])).to(device) for start in range(0, max(len(clips), 1), _BATCH))
    return torch.cat([model.seen(unit(part))[0] for part in parts]).cpu().numpy()


def heard_of(before: np.ndarray, after: np.ndarray, rate_hz: int) -> dict[str, np.ndarray]:
    """(N,) float32 each: signal-to-noise ratio and log-spectral distance in dB of ``after`` against ``before``, int16 (N, T)."""
    measures = {"snr_db": audibility.snr_db, "lsd_db": audibility.log_spectral_distance_db}
    pairs = [(x / speech.FULL_SCALE, y / speech.FULL_SCALE) for x, y in zip(before, after, strict=True)]
    return {name: np.array([measure(x, y, rate_hz) for x, y in pairs], np.float32) for name, measure in measures.items()}


def learn(attack: DrlClba, dataset: Dataset, runtime: Runtime) -> dict[str, np.ndarray]:
    """Everything that is learned of ``dataset``, as arrays. Raises `InputError` where there are no clips of the target, or of no other."""
    own = np.flatnonzero(dataset.labels == attack.target)
    if not len(own) or len(own) == len(dataset):
        raise InputError(f"target: class {attack.target} has {len(own)} of {len(dataset)} clips; it needs some, and so do other classes")
    rng = np.random.default_rng([runtime.seed, 0xD41])
    surrogate = train_surrogate(dataset, attack.network, attack.epochs, runtime).requires_grad_(False)
    judges = tuple(
        train_surrogate(dataset, attack.judge, attack.judge_epochs, replace(runtime, seed=runtime.seed + 1 + k)).requires_grad_(False)
        for k in range(attack.judges)
    )
    keys = draw_keys(1 if attack.pull else attack.keys, attack.bits, runtime.seed)
    how = stego.Schedule(attack.embed_steps, least_snr_db=attack.least_snr_db, pull=attack.pull)
    embedder, decoder = stego.train_embedder(
        dataset, keys[0], how, runtime, beta_db=attack.beta_db, code_mode=attack.code, target=attack.target, surrogate=surrogate
    )
    key = stego.best_read(embedder, decoder, keys, dataset.inputs, attack.code, runtime)
    rows = draw_pool(dataset.labels, attack.target, attack.pool, rng)
    plain = np.asarray(dataset.inputs[rows])
    triggered = stego.embed_clips(embedder, plain, key, attack.code, runtime)
    pool = Pool(rows, dataset.labels[rows], *(features_of(surrogate, clips, runtime) for clips in (plain, triggered)))
    some = np.sort(rng.permutation(len(dataset))[:_MOST])
    mean, basis = principal(features_of(surrogate, dataset.inputs[some], runtime), PRINCIPAL)
    crafter = Crafter(attack, runtime, key, surrogate, judges, embedder, pool, mean, basis, None)
    scene, _ = crafter.scene(np.asarray(dataset.inputs[own]), rng)
    trained = train_agent(scene, episode_of(attack), Training(attack.batches), runtime)
    figures = {
        **stego.measure_pair(embedder, decoder, plain, runtime),
        "key_bits": float((stego.decode_clips(decoder, triggered, runtime) == codes_of(plain, key, attack.code)).mean()),
        "relative_shift": pool.relative_shift(),
        "control_surrogate": stego.share_sent(surrogate, triggered, attack.target, runtime),
        "control_judges": float(np.mean([stego.share_sent(j, triggered, attack.target, runtime) for j in judges])) if judges else 0.0,
        "first_return": trained.returns[0],
        "best_return": max(trained.returns),
        "queries": float(trained.queries),
    }
    networks = {"surrogate": surrogate, "embedder": embedder, "actor": trained.policy, **{f"judge{k}": j for k, j in enumerate(judges)}}
    return {
        "key": key, "mean": mean, "basis": basis, "pool/rows": pool.rows, "pool/labels": pool.labels, "pool/plain": pool.plain,
        "pool/triggered": pool.triggered, **{f"{FIGURE}{name}": np.array(value) for name, value in figures.items()},
        **{name: array for prefix, network in networks.items() for name, array in to_arrays(network, prefix).items()},
    }  # fmt: skip
