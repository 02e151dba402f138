"""Reads the few pickle instructions that a CIFAR batch needs, and refuses every other.

A pickle is a program. Python's own machine, even with a filtered ``find_class``, still *calls* what it finds with arguments
from the file. This one calls nothing: it knows dicts, lists, tuples, text, bytes, whole numbers, and recognises by name
the way numpy writes an array of unsigned bytes. All values are built here; the file names no function that is looked up.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MOST_STEPS = 3_000_000
"""CIFAR-100, the longest real one, takes about 300,000."""


class Refused(ValueError):
    """The file holds something else than plain data."""


@dataclass(frozen=True)
class _Name:
    """Stands for a global that numpy's pickles mention. Nothing is imported."""

    what: str


@dataclass
class _Array:
    """An array on its way: numpy's pickles make an empty one first and fill it in with BUILD."""

    value: np.ndarray | None = None


@dataclass
class _Bytes:
    """The dtype u1, before or after its BUILD."""


_KNOWN = {
    **{(f"{module}.multiarray", "_reconstruct"): _Name("reconstruct") for module in ("numpy.core", "numpy._core")},
    **{(f"{module}.numeric", "_frombuffer"): _Name("frombuffer") for module in ("numpy.core", "numpy._core")},
    ("numpy", "ndarray"): _Name("ndarray"),
    ("numpy", "dtype"): _Name("dtype"),
    ("_codecs", "encode"): _Name("encode"),
}
_MARK = object()


@dataclass
class _Machine:
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def pop(self) -> Any:
        if not self.stack:
            raise Refused("the stack ran empty")
        value = self.stack.pop()
        if value is _MARK:
            raise Refused("a mark where a value should be")
        return value

    def pop_to_mark(self) -> list[Any]:
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                values = self.stack[at + 1 :]
                del self.stack[at:]
                return values
        raise Refused("no mark")

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise Refused(f"no {kind.__name__} to add to")
        return self.stack[-1]


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _constant(value: Callable[[], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(value())


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    def build(machine: _Machine, _: Any) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(values)))

    return build


def _fill(target: dict[Any, Any], flat: list[Any]) -> None:
    keys, values = flat[::2], flat[1::2]
    if len(keys) != len(values) or not all(isinstance(key, str | bytes) for key in keys):
        raise Refused("a dict whose keys are not text")
    target.update(zip(keys, values, strict=True))


def _dict(machine: _Machine, _: Any) -> None:
    target: dict[Any, Any] = {}
    _fill(target, machine.pop_to_mark())
    machine.stack.append(target)


def _set_items(machine: _Machine, _: Any) -> None:
    flat = machine.pop_to_mark()
    _fill(machine.top(dict), flat)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _fill(machine.top(dict), [key, value])


def _append(machine: _Machine, _: Any) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _append_all(machine: _Machine, _: Any) -> None:
    values = machine.pop_to_mark()
    machine.top(list).extend(values)


def _put(machine: _Machine, key: Any) -> None:
    machine.memo[int(key)] = machine.top(object)
    if machine.stack[-1] is _MARK:
        raise Refused("a mark cannot be remembered")


def _memoize(machine: _Machine, _: Any) -> None:
    _put(machine, len(machine.memo))


def _get(machine: _Machine, key: Any) -> None:
    if int(key) not in machine.memo:
        raise Refused("a value is recalled that was never remembered")
    machine.stack.append(machine.memo[int(key)])


def _name(module: Any, name: Any) -> _Name:
    if not (isinstance(module, str) and isinstance(name, str)) or (module, name) not in _KNOWN:
        raise Refused(f"it refers to {module!r:.60} {name!r:.60}")
    return _KNOWN[module, name]


def _global(machine: _Machine, argument: Any) -> None:
    module, _, name = str(argument).partition(" ")
    machine.stack.append(_name(module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(_name(module, name))


def _raw(value: Any) -> bytes:
    """Python 2 wrote bytes as text of code points below 256."""
    try:
        return value.encode("latin-1") if isinstance(value, str) else bytes(memoryview(value))
    except (TypeError, UnicodeEncodeError) as why:
        raise Refused("bytes were expected") from why


def _shaped(data: Any, shape: Any, fortran: bool) -> np.ndarray:
    raw = _raw(data)
    sane = isinstance(shape, tuple) and 0 < len(shape) <= 4 and all(type(side) is int and 0 <= side < 2**31 for side in shape)
    if not sane or math.prod(shape) != len(raw):
        raise Refused("an array whose shape and data do not agree")
    array: np.ndarray = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")
    return array


def _reduced_reconstruct(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 3 or not isinstance(arguments[0], _Name) or arguments[0] != _Name("ndarray"):
        raise Refused("an array of an unknown kind")
    return _Array()


def _reduced_dtype(arguments: tuple[Any, ...]) -> Any:
    if not arguments or arguments[0] not in ("u1", "|u1", b"u1", b"|u1"):
        raise Refused("an array of something else than unsigned bytes")
    return _Bytes()


def _reduced_encode(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] not in ("latin1", "latin-1"):
        raise Refused("an unknown encoding")
    return _raw(arguments[0])


def _reduced_frombuffer(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 4 or not isinstance(arguments[1], _Bytes) or arguments[3] not in ("C", "F"):
        raise Refused("an array of an unknown kind")
    return _Array(_shaped(arguments[0], arguments[2], arguments[3] == "F"))


_REDUCED = {
    "reconstruct": _reduced_reconstruct,
    "dtype": _reduced_dtype,
    "encode": _reduced_encode,
    "frombuffer": _reduced_frombuffer,
}


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, target = machine.pop(), machine.pop()
    if not isinstance(target, _Name) or target.what not in _REDUCED or not isinstance(arguments, tuple):
        raise Refused("it calls something")
    machine.stack.append(_REDUCED[target.what](arguments))


def _build(machine: _Machine, _: Any) -> None:
    state = machine.pop()
    target = machine.stack[-1] if machine.stack else None
    if isinstance(target, _Bytes):
        if not isinstance(state, tuple) or state[:5] not in ((3, "|", None, None, None), (3, b"|", None, None, None)):
            raise Refused("an array of something else than unsigned bytes")
        return
    if not isinstance(target, _Array) or not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Bytes):
        raise Refused("it sets the state of something that is no array of bytes")
    target.value = _shaped(state[4], state[1], bool(state[3]))


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": _constant(lambda: _MARK),
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_LIST": _constant(list),
    "EMPTY_DICT": _constant(dict),
    "EMPTY_TUPLE": _constant(tuple),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "DICT": _dict,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "APPEND": _append,
    "APPENDS": _append_all,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    "MEMOIZE": _memoize,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _push),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _push),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "BUILD": _build,
}


def parse(data: bytes) -> Any:
    """The plain value that ``data`` describes: dicts, lists, tuples, text, bytes, whole numbers, uint8 arrays (as `_Array`).

    Raises `Refused` at the first instruction that is not needed for that, before anything behind it is read.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if opcode.name == "STOP":
                return machine.pop()
            if opcode.name not in _STEPS:
                raise Refused(f"it uses the instruction {opcode.name}")
            if count > MOST_STEPS:
                raise Refused("it is too long")
            _STEPS[opcode.name](machine, argument)
    except Refused:
        raise
    except (ValueError, OverflowError, IndexError, EOFError, RecursionError) as why:
        raise Refused(f"it is damaged ({str(why)[:80]})") from why
    raise Refused("it ends too early")


def array_of(value: Any) -> np.ndarray:
    """The array inside a value of `parse`. Raises `Refused` if it is none."""
    if not isinstance(value, _Array) or value.value is None:
        raise Refused("an array of pictures was expected")
    return value.value
