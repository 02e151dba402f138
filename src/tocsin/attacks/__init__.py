"""The attacks, one file each. To add one: its file, a line in `_ATTACKS`, its row in the tests, its section in docs/attacks.md."""

from tocsin.attacks.adap_blend import AdapBlend
from tocsin.attacks.adap_patch import AdapPatch
from tocsin.attacks.badnet import BadNet
from tocsin.attacks.badnet_all_to_all import BadNetAllToAll
from tocsin.attacks.base import Attack, Poisoned
from tocsin.attacks.blend import Blend
from tocsin.attacks.cl import LabelConsistent
from tocsin.attacks.dynamic import Dynamic
from tocsin.attacks.issba import Issba
from tocsin.attacks.narcissus import Narcissus
from tocsin.attacks.none import NoAttack
from tocsin.attacks.sig import Sig
from tocsin.attacks.tact import TaCT
from tocsin.attacks.trojan import Trojan
from tocsin.attacks.wanet import WaNet

_ATTACKS: tuple[type[Attack], ...] = (
    NoAttack,
    BadNet,
    BadNetAllToAll,
    Blend,
    Trojan,
    Sig,
    LabelConsistent,
    Narcissus,
    TaCT,
    Dynamic,
    Issba,
    WaNet,
    AdapBlend,
    AdapPatch,
)

ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in _ATTACKS}
"""Every attack by its name."""

__all__ = [
    "ATTACKS",
    "AdapBlend",
    "AdapPatch",
    "Attack",
    "BadNet",
    "BadNetAllToAll",
    "Blend",
    "Dynamic",
    "Issba",
    "LabelConsistent",
    "Narcissus",
    "NoAttack",
    "Poisoned",
    "Sig",
    "TaCT",
    "Trojan",
    "WaNet",
]
