"""The attacks, one file each. To add one: its file, a line in `_ATTACKS`, its row in the tests, its section in docs/attacks.md."""

from tocsin.attacks.adap_blend import AdapBlend
from tocsin.attacks.badnet import BadNet
from tocsin.attacks.base import Attack, Poisoned
from tocsin.attacks.blend import Blend
from tocsin.attacks.none import NoAttack
from tocsin.attacks.sig import Sig
from tocsin.attacks.tact import TaCT
from tocsin.attacks.trojan import Trojan

_ATTACKS: tuple[type[Attack], ...] = (NoAttack, BadNet, Blend, Trojan, Sig, TaCT, AdapBlend)

ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in _ATTACKS}
"""Every attack by its name."""

__all__ = ["ATTACKS", "AdapBlend", "Attack", "BadNet", "Blend", "NoAttack", "Poisoned", "Sig", "TaCT", "Trojan"]
