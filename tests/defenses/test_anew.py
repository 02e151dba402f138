"""Defences that train anew begin with weights that know nothing of those before."""

from __future__ import annotations

import pytest
import torch

from tocsin.defenses.base import anew
from tocsin.networks import NETWORKS, build_network


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_all_weights_are_drawn_again_and_the_seed_decides(name: str) -> None:
    network = build_network(name, 1, 3, 0)
    with torch.no_grad():
        learned = {name for name, _ in network.named_parameters()} | {name for name in network.state_dict() if "running_" in name}
        for key in learned:
            network.state_dict()[key].add_(100)
    one, same, other = (anew(network, seed) for seed in (1, 1, 2))
    for key, value in one.state_dict().items():
        assert key not in learned or value.abs().max() < 50, key
        assert torch.equal(value, same.state_dict()[key]), key
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
