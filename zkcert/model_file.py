"""Graph, input and tensors of a model file, which is untrusted: torch.save's zip format, or safetensors."""

from __future__ import annotations

import io
import json
import math
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from zkcert.config import canonical_json
from zkcert.errors import UnusableInput
from zkcert.graph import NAME
from zkcert.torch_pickle import HOW_TO_SAVE, Storage, Tensor, damaged, interpret, naturals

MAX_HEADER_BYTES = 4 << 20
_SIZES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}


def read_model(data: bytes) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Graph, input and tensors as the file has them, unchecked; the kind is told by content. Raises UnusableInput."""
    return read_torch(data) if data[:2] == b"PK" else read_safetensors(data)


def _floats(raw: bytes | memoryview, dtype: str) -> np.ndarray:
    """Little-endian bytes as float32 (F16 and BF16 too, exactly) or float64."""
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    with np.errstate(all="ignore"):
        return np.frombuffer(raw, {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype]).astype(
            np.float64 if dtype == "F64" else np.float32
        )


def _gather(tensors: dict[str, Tensor], members: Mapping[str, bytes | memoryview]) -> dict[str, np.ndarray]:
    """The tensors' values; together they take no more memory than their storages."""
    used: dict[str, int] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        storage, size = tensor.storage, math.prod(tensor.shape)
        used[storage.key] = used.get(storage.key, 0) + size
        if used[storage.key] > storage.count:
            raise UnusableInput(f"tensor {name} shares its values: tied weights are not supported")
        last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True))
        raw = members.get(storage.key, b"")
        if size == 0 or last >= storage.count or len(raw) != storage.count * _SIZES[storage.dtype]:
            damaged(f"tensor {name} does not fit its storage")
        flat = _floats(raw, storage.dtype)
        strides = tuple(s * flat.itemsize if n > 1 else 0 for n, s in zip(tensor.shape, tensor.stride, strict=True))
        view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)
        arrays[name] = np.array(view, order="C")
    return arrays


def read_torch(data: bytes) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Graph, input and tensors of a torch.save zip archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # genops warns of odd escapes in opcodes that are refused anyway
            infos = archive.infolist()
            if any(i.compress_type or i.file_size != i.compress_size or i.flag_bits & 1 for i in infos):
                damaged("its zip members must be stored uncompressed")
            if sum(i.file_size for i in infos) > len(data) or len({i.filename for i in infos}) != len(infos):
                damaged("its zip members overlap")
            heads = [i for i in infos if re.fullmatch(r"[^/]+/data\.pkl", i.filename)]
            if len(heads) != 1 or heads[0].file_size > MAX_HEADER_BYTES:
                damaged("no data.pkl of reasonable size")
            root = heads[0].filename.removesuffix("data.pkl")
            names = {i.filename for i in infos}
            if root + "byteorder" in names and archive.read(root + "byteorder") != b"little":
                damaged("it is not little-endian")
            value = interpret(archive.read(heads[0]))
            prefix = root + "data/"
            members = {n.removeprefix(prefix): archive.read(n) for n in sorted(names) if n.startswith(prefix)}
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        struct.error,
        OSError,
        OverflowError,
    ) as error:
        damaged(str(error)[:100])
    except (ValueError, LookupError) as error:
        damaged(f"its pickle does not parse ({type(error).__name__})")
    match value:
        case {"graph": graph, "input": spec, "state_dict": dict(state)} if len(value) == 3:
            pass
        case _:
            raise UnusableInput(f"model file must hold exactly graph, input and state_dict; {HOW_TO_SAVE}")
    for name, tensor in state.items():
        if not NAME.fullmatch(name) or not isinstance(tensor, Tensor):
            damaged("state_dict must map plain names to tensors")
    return graph, spec, _gather(state, members)


def _json(text: bytes | str) -> Any:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs):
            damaged("a JSON key is repeated")
        return dict(pairs)

    try:
        text = text if isinstance(text, str) else text.decode()
        return json.loads(text, object_pairs_hook=unique, parse_constant=lambda name: damaged(name))
    except (ValueError, RecursionError):
        damaged("its JSON does not parse")


def read_safetensors(data: bytes) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Graph, input and tensors of a safetensors file; tensors must tile the data without gaps."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, MAX_HEADER_BYTES):
        damaged(f"neither torch.save's zip format nor safetensors; {HOW_TO_SAVE}")
    header, body = _json(data[8 : 8 + length]), memoryview(data)[8 + length :]
    match header:
        case {"__metadata__": {"zkcert.graph": str(graph), "zkcert.input": str(spec)}}:
            del header["__metadata__"]
        case _:
            raise UnusableInput(f"safetensors metadata lacks zkcert.graph and zkcert.input; {HOW_TO_SAVE}")
    tensors, spans, members = {}, [], {}
    for name, entry in header.items():
        match entry:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]} if (
                len(entry) == 3 and dtype in _SIZES and NAME.fullmatch(name)
            ):
                extents = tuple(shape)
            case _:
                damaged("a tensor's description (F64, F32, F16 and BF16 are read)")
        count = (end - begin) // _SIZES[dtype]
        fits = naturals((begin, end, *extents)) and len(extents) <= 8 and begin <= end <= len(body)
        if not fits or count != math.prod(extents):
            damaged(f"tensor {name} does not fit its data")
        stride = tuple(math.prod(extents[i + 1 :]) for i in range(len(extents)))
        members[name] = body[begin:end]
        tensors[name] = Tensor(Storage(dtype, name, count), 0, extents, stride)
        spans.append((begin, end))
    spans.sort()
    edges = [0, *(end for _, end in spans)]
    if [begin for begin, _ in spans] != edges[:-1] or edges[-1] != len(body):
        damaged("its tensors do not tile the data")
    return _json(graph), _json(spec), _gather(tensors, members)


def safetensors(graph: object, spec: object, tensors: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """A safetensors file of graph, input and tensors, piece by piece."""
    metadata = {"zkcert.graph": canonical_json(graph), "zkcert.input": canonical_json(spec)}
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in tensors.items():
        begin, end = end, end + array.nbytes
        dtype = f"F{8 * array.itemsize}"
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    yield from (array.astype(array.dtype.newbyteorder("<")).tobytes() for array in tensors.values())
