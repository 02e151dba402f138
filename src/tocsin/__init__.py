"""tocsin: which samples of a training set plant a backdoor, told before the model is trained."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> where it lives. Looked up on first use, so that `import tocsin` is light (torch is not imported).
_PUBLIC = {
    "Dataset": "tocsin.data.dataset",
    "load": "tocsin.data",
    "audit": "tocsin.auditing",
    "Report": "tocsin.report.model",
    "Runtime": "tocsin.runtime",
    "InputError": "tocsin.errors",
    "AuditIncomplete": "tocsin.errors",
    "ATTACKS": "tocsin.attacks",
    "DETECTORS": "tocsin.detectors",
}
__all__ = [
    "ATTACKS",
    "DETECTORS",
    "AuditIncomplete",
    "Dataset",
    "InputError",
    "Report",
    "Runtime",
    "__version__",
    "audit",
    "load",
]

if TYPE_CHECKING:
    from tocsin.attacks import ATTACKS
    from tocsin.auditing import audit
    from tocsin.data import load
    from tocsin.data.dataset import Dataset
    from tocsin.detectors import DETECTORS
    from tocsin.errors import AuditIncomplete, InputError
    from tocsin.report.model import Report
    from tocsin.runtime import Runtime


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'tocsin' has no attribute {name!r}")
