"""torch.save's pickle, without PyTorch: opcodes are interpreted here, nothing is imported or called."""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass
from typing import Any

from zkcert.errors import UnusableInput
from zkcert.public.model_file import HOW_TO_SAVE, damaged

MAX_STACK = 1 << 16
_STORAGES = {"HalfStorage": "F16", "BFloat16Storage": "BF16", "FloatStorage": "F32", "DoubleStorage": "F64"}
_PLACE = re.compile(r"cpu|cuda(:[0-9]{1,3})?")
_ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
)
_GLOBALS = {_ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER, *(f"torch {name}" for name in _STORAGES)}


@dataclass(frozen=True)
class _Global:
    """An admitted `module name`; inert."""

    name: str


@dataclass(frozen=True)
class Storage:
    """`count` numbers of a dtype ("F16", "BF16", "F32", "F64"), in the file's member `key`."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class Tensor:
    """A strided view of a storage; offset, shape and stride in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def naturals(value: object) -> bool:
    """Whether a value is a tuple of natural numbers."""
    return type(value) is tuple and all(type(v) is int and v >= 0 for v in value)


def _storage(pid: object) -> Storage:
    match pid:
        case ("storage", _Global(name), str(key), str(place), int(count)) if _PLACE.fullmatch(place):
            dtype = _STORAGES.get(name.removeprefix("torch "))
            if dtype and re.fullmatch("[0-9]{1,9}", key) and naturals((count,)):
                return Storage(dtype, key, count)
    damaged("unknown kind of storage")


def _reduce(function: object, args: object) -> object:
    match function, args:
        case _Global(name=name), () if name == _ORDERED_DICT:
            return {}
        case _Global(name=name), (Tensor() as tensor, bool(), dict(hooks)) if name == _REBUILD_PARAMETER and not hooks:
            return tensor
        case (
            _Global(name=name),
            (Storage() as storage, int(offset), tuple(shape), tuple(stride), bool(), dict(hooks)),
        ) if name == _REBUILD_TENSOR and not hooks:
            if naturals((offset, *shape, *stride)) and len(shape) == len(stride) <= 8:
                return Tensor(storage, offset, shape, stride)
    damaged("a call other than that of a tensor")


def _extend(target: object, items: list[object]) -> None:
    if type(target) is not list:
        damaged("appending to what is no list")
    target.extend(items)


def _set_items(target: object, items: list[object]) -> None:
    if type(target) is not dict or len(items) % 2:
        damaged("setting items of what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) is not str or key in target:
            damaged("a dictionary key is repeated or no text")
        target[key] = value


def interpret(data: bytes) -> Any:
    """The value a torch.save pickle (protocol 2) denotes, with tensors as `Tensor`; raises UnusableInput."""
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[Any, Any] = {}
    storages: dict[str, Storage] = {}

    def pop_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, marks.pop()
        return items

    for opcode, arg, position in pickletools.genops(data):
        match opcode.name:
            case "PROTO" if arg == 2 and position == 0:
                pass
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(arg)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "MARK":
                marks.append(stack)
                stack = []
            case "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "TUPLE":
                items = pop_mark()
                stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode.name[-1])
                stack.append(tuple([stack.pop() for _ in range(count)][::-1]))
            case "APPEND":
                value = stack.pop()
                _extend(stack[-1], [value])
            case "APPENDS":
                items = pop_mark()
                _extend(stack[-1], items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set_items(stack[-1], [key, value])
            case "SETITEMS":
                items = pop_mark()
                _set_items(stack[-1], items)
            case "GLOBAL":
                if arg not in _GLOBALS:
                    raise UnusableInput(f"model file refers to {ascii(arg)[:80]}, refused; {HOW_TO_SAVE}")
                stack.append(_Global(arg))
            case "BINPERSID":
                storage = _storage(stack.pop())
                if storage.key not in storages and storage.key != str(len(storages)):
                    damaged("storages that are not numbered as they are loaded")
                if storages.setdefault(storage.key, storage) != storage:  # PyTorch keeps the first, whatever uses it
                    damaged("a storage with two types or sizes")
                stack.append(storage)
            case "REDUCE":
                args, function = stack.pop(), stack.pop()
                stack.append(_reduce(function, args))
            case "BUILD":  # an OrderedDict's attributes: only those that state_dict() gives it
                attributes = stack.pop()
                if type(stack[-1]) is not dict or type(attributes) is not dict or set(attributes) - {"_metadata"}:
                    damaged("attributes of an object")
            case "STOP":
                if len(stack) != 1 or marks or position != len(data) - 1:
                    damaged("data after the end")
                return stack[0]
            case name:
                damaged(f"pickle opcode {name}")
        if len(stack) > MAX_STACK or len(marks) > MAX_STACK or len(memo) > MAX_STACK:
            damaged("too many values")
    damaged("no end")
