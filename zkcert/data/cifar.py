"""CIFAR batches for Python, without `pickle`: opcodes are interpreted here, nothing is imported, called or hashed but
short texts. Time and memory are linear in the size of the file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

MAX_OPCODES = 1 << 20  # a batch takes about four a sample
_SHAPE = (3, 32, 32)

_INTEGERS = {ord("K"): (1, False), ord("M"): (2, False), ord("J"): (4, True)}
"""Opcode -> bytes, signed."""
_TEXTS = {
    **{ord("U"): (1, False), ord("T"): (4, False), ord("C"): (1, False), ord("B"): (4, False)},
    **{0x8E: (8, False), 0x96: (8, False), ord("X"): (4, True), 0x8C: (1, True), 0x8D: (8, True)},
}
"""Opcode -> bytes of the length, whether it is UTF-8 rather than bytes."""
_CONSTANTS = {ord("N"): None, 0x88: True, 0x89: False, ord(")"): ()}
_TUPLES = {0x85: 1, 0x86: 2, 0x87: 3}
_PUTS, _GETS = {ord("q"): 1, ord("r"): 4}, {ord("h"): 1, ord("j"): 4}
_LONG_TEXT = 4096  # bytes, from which a text is not copied
_LONG_KEY = 100

_GLOBALS = {
    *("numpy ndarray", "numpy dtype", "numpy.core.multiarray _reconstruct", "numpy.core.multiarray scalar"),
    *("numpy.core.numeric _frombuffer", "_codecs encode", "builtins bytes", "builtins bytearray"),
}
"""What may be referred to, as Python 2 and 3 and all versions of numpy name it."""

_CODES = frozenset(kind + size for kind in "iu" for size in "1248") | {"f2", "f4", "f8"}


@dataclass(frozen=True)
class _Global:
    """An admitted `module name`; inert."""

    name: str


@dataclass(eq=False)
class _Dtype:
    """A numpy dtype: kind and size, and the byte order once that is known."""

    code: str
    order: str | None = None

    def numpy(self) -> np.dtype[Any]:
        return np.dtype((self.order or "=") + self.code)


@dataclass(eq=False)
class _Array:
    """A numpy array: (dtype, shape, Fortran order, content), once they are known."""

    state: tuple[_Dtype, tuple[int, ...], bool, bytes | memoryview] | None = None

    def numpy(self) -> npt.NDArray[Any]:
        """The array, a read-only view of its content; ValueError if that has another size."""
        if self.state is None:
            _bad("an array without content")
        dtype, shape, fortran, raw = self.state
        if len(raw) != math.prod(shape) * dtype.numpy().itemsize:
            _bad("an array whose content does not fit its shape")
        return np.frombuffer(raw, dtype.numpy()).reshape(shape, order="F" if fortran else "C")


def _bad(what: str) -> NoReturn:
    raise ValueError(what)


def _dtype(code: object) -> _Dtype:
    text = code.decode("latin1") if isinstance(code, bytes) else code
    if type(text) is not str or text not in _CODES:
        _bad("an array of other things than numbers")
    return _Dtype(text)


def _array_state(dtype: object, shape: object, fortran: object, raw: object) -> tuple[Any, ...]:
    if type(dtype) is not _Dtype or type(raw) not in (bytes, memoryview) or type(fortran) is not bool:
        _bad("an array of an unknown form")
    if type(shape) is not tuple or len(shape) > 4 or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
        _bad("an array of an unknown shape")
    return dtype, shape, fortran, raw


class _Machine:
    """The state of a pickle's interpretation."""

    def __init__(self, data: bytes) -> None:
        self.data, self.view, self.position = data, memoryview(data), 2
        self.encoded = 0  # bytes made by _codecs.encode
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def number(self, size: int, signed: bool = False) -> int:
        """The next bytes, little-endian."""
        start, self.position = self.position, self.position + size
        if self.position > len(self.data):
            _bad("it is cut short")
        return int.from_bytes(self.data[start : self.position], "little", signed=signed)

    def text(self, size: int) -> bytes | memoryview:
        """As many of the next bytes as the number before them says."""
        length = self.number(size)
        start, self.position = self.position, self.position + length
        if self.position > len(self.data):
            _bad("it is cut short")
        return self.view[start : self.position] if length > _LONG_TEXT else self.data[start : self.position]

    def line(self) -> str:
        """Up to the end of a line, which is near."""
        end = self.data.find(b"\n", self.position, self.position + 100)
        if end < 0:
            _bad("a name without an end")
        start, self.position = self.position, end + 1
        return self.data[start:end].decode()

    def pop_mark(self) -> list[Any]:
        """What lies above the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def find(self, module: object, name: object) -> _Global:
        """The inert stand-in of a global."""
        if type(module) is not str or type(name) is not str:
            _bad("a reference that is no text")
        renamed = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        if f"{renamed} {name}" not in _GLOBALS:
            _bad(f"it refers to {ascii(f'{module}.{name}')[1:-1][:80]}")
        return _Global(f"{renamed} {name}")

    def reduce(self, function: object, args: object) -> object:
        """What a call stands for."""
        if type(function) is not _Global or type(args) is not tuple:
            _bad("a call of what is no function")
        match function.name, args:
            case "numpy.core.multiarray _reconstruct", (_Global("numpy ndarray"), tuple(), bytes() | str()):
                return _Array()
            case "numpy.core.multiarray scalar", (_Dtype() as dtype, bytes(raw)):
                return _Array(_array_state(dtype, (), False, raw)).numpy().item()
            case "numpy.core.numeric _frombuffer", (raw, dtype, shape, "C" | "F" as order):
                return _Array(_array_state(dtype, shape, order == "F", raw))
            case "numpy dtype", (code, *_):
                return _dtype(code)
            case "_codecs encode", (str(text), "latin1"):
                self.encoded += len(text)
                if self.encoded > len(self.data):
                    _bad("the same text is encoded again and again")
                return text.encode("latin1")
            case (("builtins bytes" | "builtins bytearray"), ()):
                return b""
            case "builtins bytearray", (bytes(raw),):
                return raw
        _bad(f"a call of {function.name} in an unknown form")

    def build(self, target: object, state: object) -> None:
        """Complete an array or a dtype."""
        match target, state:
            case _Array(None), (int(), shape, dtype, fortran, raw):
                target.state = _array_state(dtype, shape, fortran, raw)
            case _Dtype(order=None), (int(), str() | bytes() as order, None, None, None, *_):
                text = order.decode("latin1") if isinstance(order, bytes) else order
                if text not in ("<", ">", "|", "="):
                    _bad("an unknown byte order")
                target.order = text
            case _:
                _bad("the state of what has none")

    def extend(self, items: list[Any]) -> None:
        """Append to the list on top of the stack."""
        if type(self.stack[-1]) is not list:
            _bad("appending to what is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Set keys and values in the dictionary on top of the stack."""
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            _bad("setting items of what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, bytes) or len(key) > _LONG_KEY:  # long ones would be compared over and over
                _bad("a key that is no short text")
            text = key.decode() if type(key) is bytes else key
            if text in target:
                _bad("a key is repeated")
            target[text] = value

    def step(self, opcode: int) -> None:
        """Interpret an opcode other than STOP."""
        stack = self.stack
        if opcode in _INTEGERS:
            stack.append(self.number(*_INTEGERS[opcode]))
        elif opcode in _TEXTS:
            size, utf8 = _TEXTS[opcode]
            raw = self.text(size)
            stack.append(str(raw, "utf-8", "surrogatepass") if utf8 else raw)
        elif opcode in _PUTS:
            self.memo[self.number(_PUTS[opcode])] = stack[-1]
        elif opcode in _GETS:
            stack.append(self.memo[self.number(_GETS[opcode])])
        elif opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in _TUPLES:
            count = _TUPLES[opcode]
            if len(stack) < count:
                _bad("a tuple of what is not there")
            stack[-count:] = [tuple(stack[-count:])]
        else:
            self.step_seldom(chr(opcode))

    def step_seldom(self, opcode: str) -> None:
        """Interpret one of the other opcodes."""
        stack = self.stack
        match opcode:
            case "\x94":  # MEMOIZE
                self.memo[len(self.memo)] = stack[-1]
            case "]":
                stack.append([])
            case "}":
                stack.append({})
            case "(":
                self.marks.append(stack)
                self.stack = []
            case "t":
                items = self.pop_mark()
                self.stack.append(tuple(items))
            case "a":
                item = stack.pop()
                self.extend([item])
            case "e":
                items = self.pop_mark()
                self.extend(items)
            case "s":
                value, key = stack.pop(), stack.pop()
                self.set_items([key, value])
            case "u":
                items = self.pop_mark()
                self.set_items(items)
            case "c":
                stack.append(self.find(self.line(), self.line()))
            case "\x93":  # STACK_GLOBAL
                name, module = stack.pop(), stack.pop()
                stack.append(self.find(module, name))
            case "R":
                args, function = stack.pop(), stack.pop()
                stack.append(self.reduce(function, args))
            case "b":
                state = stack.pop()
                self.build(stack[-1], state)
            case "\x8a":  # LONG1
                stack.append(self.number(self.number(1), signed=True))
            case "G":
                self.number(8)
                stack.append(np.frombuffer(self.data, ">f8", 1, self.position - 8).item())
            case "\x95":  # FRAME
                self.number(8)
            case _:
                _bad(f"pickle opcode {ord(opcode):#04x} at byte {self.position - 1}")


def interpret(data: bytes, limit: int = MAX_OPCODES) -> object:
    """The value of a pickle of protocols 2 to 5, of at most `limit` opcodes: containers, numbers, texts, bytes, and
    arrays as `_Array`. Keys are texts. ValueError."""
    if data[:1] != b"\x80" or data[1:2] not in (b"\2", b"\3", b"\4", b"\5"):
        _bad("not a pickle of protocol 2 to 5")
    machine = _Machine(data)
    try:
        for _ in range(limit):
            opcode = machine.number(1)
            if opcode == ord("."):
                if len(machine.stack) != 1 or machine.marks or machine.position != len(data):
                    _bad("something follows the end")
                return machine.stack[0]
            machine.step(opcode)
    except LookupError:
        _bad(f"it uses what is not there, before byte {machine.position}")
    _bad(f"more than {limit} opcodes")


def read_cifar(data: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (N, 3, 32, 32) and labels (N,) of a batch of CIFAR-10, or the fine labels of CIFAR-100. ValueError."""
    batch = interpret(data)
    if type(batch) is not dict:
        _bad("it is no dictionary")
    pixels, labels = batch.get("data"), batch.get("labels", batch.get("fine_labels"))
    if not isinstance(pixels, _Array) or not isinstance(labels, _Array | list):
        _bad("expected an array `data`, and `labels` or `fine_labels`")
    x = pixels.numpy()
    if x.dtype != np.uint8 or x.shape[1:] != (math.prod(_SHAPE),):
        _bad("expected `data` of bytes and shape (N, 3072)")
    if isinstance(labels, list):
        if not all(type(label) is int and abs(label) < 1 << 31 for label in labels):
            _bad("expected labels that are integers")
        return x.reshape(-1, *_SHAPE), np.array(labels, np.int64)
    y = labels.numpy()
    if y.dtype.kind not in "iu":
        _bad("expected labels that are integers")
    return x.reshape(-1, *_SHAPE), y
