"""The attacks, one file each. To add one: its file, a line in `_ATTACKS`, its row in the tests, its section in docs/attacks.md."""

from tocsin.attacks.adap_blend import AdapBlend
from tocsin.attacks.adap_patch import AdapPatch
from tocsin.attacks.badnet import BadNet
from tocsin.attacks.badnet_all_to_all import BadNetAllToAll
from tocsin.attacks.base import Attack, Poisoned
from tocsin.attacks.blend import Blend
from tocsin.attacks.cl import LabelConsistent
from tocsin.attacks.ctrl import Ctrl
from tocsin.attacks.drl_clba import DrlClba
from tocsin.attacks.dynamic import Dynamic
from tocsin.attacks.explanation import Explanation
from tocsin.attacks.feature_patch import FeaturePatch
from tocsin.attacks.flowmur import FlowMur
from tocsin.attacks.hidden_trigger import HiddenTrigger
from tocsin.attacks.issba import Issba
from tocsin.attacks.jingleback import JingleBack
from tocsin.attacks.label_flip import LabelFlip
from tocsin.attacks.narcissus import Narcissus
from tocsin.attacks.narcissus_speech import NarcissusSpeech
from tocsin.attacks.noise import Noise
from tocsin.attacks.none import NoAttack
from tocsin.attacks.pbsm import Pbsm
from tocsin.attacks.sig import Sig
from tocsin.attacks.slu import CleanLabelSlu
from tocsin.attacks.spectrogram_patch import SpectrogramPatch
from tocsin.attacks.ssl_backdoor import SslBackdoor
from tocsin.attacks.stego import Stego
from tocsin.attacks.tact import TaCT
from tocsin.attacks.tone import Tone
from tocsin.attacks.trojan import Trojan
from tocsin.attacks.ultrasonic import Ultrasonic
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
    Ctrl,
    SslBackdoor,
    HiddenTrigger,
    Tone,
    SpectrogramPatch,
    Noise,
    Ultrasonic,
    JingleBack,
    Pbsm,
    FlowMur,
    NarcissusSpeech,
    CleanLabelSlu,
    Stego,
    DrlClba,
    Explanation,
    FeaturePatch,
    LabelFlip,
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
    "CleanLabelSlu",
    "Ctrl",
    "DrlClba",
    "Dynamic",
    "Explanation",
    "FeaturePatch",
    "FlowMur",
    "HiddenTrigger",
    "Issba",
    "JingleBack",
    "LabelConsistent",
    "LabelFlip",
    "Narcissus",
    "NarcissusSpeech",
    "NoAttack",
    "Noise",
    "Pbsm",
    "Poisoned",
    "Sig",
    "SpectrogramPatch",
    "SslBackdoor",
    "Stego",
    "TaCT",
    "Tone",
    "Trojan",
    "Ultrasonic",
    "WaNet",
]
