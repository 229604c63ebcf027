"""Parquet and Arrow files, and what `datasets` saves, that nobody vouches for: through pyarrow, whose memory is
bounded, and of which nothing is used that it has not validated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from zkcert.data import pictures
from zkcert.data.arrays import Options, Raw, number_texts, taken_as_bytes
from zkcert.data.columns import label_column, listed
from zkcert.data.npz import FREE_BYTES, MAX_RATIO, check_unpacked
from zkcert.errors import UnusableInput
from zkcert.files.extras import needs_extras
from zkcert.files.limits import memory_for
from zkcert.public.kinds import read_head
from zkcert.public.reading import opened, read_file
from zkcert.public.strict_json import parse

if TYPE_CHECKING:
    import pyarrow

MAX_FILE_BYTES = 1 << 38
MAX_COLUMNS = 1 << 16
MAX_METADATA = 1 << 24  # bytes
ARROW_HEADS = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")
"""What Parquet, Arrow files and Arrow streams begin with."""

_ROWS = 256  # of a Parquet file, read at a time
_WORK = 1 << 30  # bytes that pyarrow may take beside what the file may unpack to
_DEPTH = 4  # of lists
_STATE, _SPLITS = "state.json", "dataset_dict.json"


def is_saved(path: Path) -> bool:
    """Whether a directory is what `datasets` saves."""
    return (path / _STATE).is_file() or (path / _SPLITS).is_file()


def read_saved(path: Path, options: Options) -> Raw:
    """A dataset that `save_to_disk` of Hugging Face's `datasets` wrote. UnusableInput."""
    name = _SPLITS if (path / _SPLITS).is_file() else _STATE
    try:
        content = parse(read_file(path / name, MAX_METADATA))
        match content:
            case {"splits": [*splits]}:
                shown = listed([str(split)[:40] for split in splits[:9]])
                first = ascii(str(splits[0]) if splits else "train")[1:-1][:40]
                raise UnusableInput(f"{path}: holds the parts {shown}: give one of them, as {path / first}")
            case {"_data_files": [*files]} if not content.get("_indices_data_files"):
                names: list[Any] = [entry.get("filename") if isinstance(entry, dict) else None for entry in files]
            case _:
                raise ValueError("it lists no data files")
        if bad := [entry for entry in names if type(entry) is not str or not re.fullmatch(r"\w[\w.-]{0,200}", entry)]:
            raise ValueError(f"{ascii(bad[0])[:60]} is no name of a data file")
        if not names:
            raise ValueError("it lists no data files")
    except ValueError as error:
        raise UnusableInput(f"{path / name}: {error}") from error
    return read_arrow([path / entry for entry in names], options)


def read_arrow(paths: Sequence[Path], options: Options) -> Raw:
    """The rows of Parquet or Arrow files that have the same columns, one file after the other.

    Samples are a column of pictures, or one of lists of numbers, all of one shape, or else all columns of numbers
    together. Labels are numbers or texts; what `datasets` says of their names is known. UnusableInput.
    """
    with needs_extras("reading Parquet and Arrow", "pyarrow"):
        import pyarrow  # noqa: F401
    table: _Table | None = None
    packed = 0
    for path in paths:
        with opened(path, MAX_FILE_BYTES) as (file, size), memory_for(_WORK + max(MAX_RATIO * size, FREE_BYTES)):
            try:
                packed += size
                with _foreign():
                    source = _Source(file, path)
                if table is None:
                    table = _Table(source.schema, options)
                elif not source.schema.equals(table.schema) or _features(source.schema) != _features(table.schema):
                    raise ValueError("its columns are others than those of the first file")
                table.packed = packed
                for batch in source.batches(table.wanted):
                    table.add(batch)
            except MemoryError as error:
                raise UnusableInput(
                    f"{path}: {size} bytes claim to hold far more: store the data uncompressed"
                ) from error
            except ValueError as error:
                raise UnusableInput(f"{path}: {error}") from error
    assert table is not None
    return table.raw()


@contextmanager
def _foreign() -> Iterator[None]:
    """Whatever pyarrow makes of a damaged file is a ValueError."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:100]
        raise ValueError(f"no sound Parquet or Arrow file ({text or type(error).__name__})") from error


class _Source:
    """An open file, whatever its format."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        import pyarrow
        from pyarrow import ipc, parquet

        head = read_head(path, 8)
        self._parquet: Any = None
        self._reader: Any = None
        if head.startswith(b"PAR1"):
            self._parquet = parquet.ParquetFile(
                pyarrow.PythonFile(file, mode="r"),
                thrift_string_size_limit=MAX_METADATA,
                thrift_container_size_limit=1 << 20,
                pre_buffer=False,
            )
            self.schema = self._parquet.schema_arrow
        else:
            options = ipc.IpcReadOptions(use_threads=False)
            kind = ipc.open_file if head.startswith(b"ARROW1") else ipc.open_stream
            self._reader = kind(pyarrow.PythonFile(file, mode="r"), options=options)
            self.schema = self._reader.schema
        if not 1 <= len(self.schema.names) <= MAX_COLUMNS:
            raise ValueError(f"{len(self.schema.names)} columns; expected 1 to {MAX_COLUMNS}")

    def batches(self, names: list[str]) -> Iterator[pyarrow.RecordBatch]:
        """Some of the columns, validated. Raises ValueError."""
        with _foreign():
            if self._parquet is not None:
                found = self._parquet.iter_batches(batch_size=_ROWS, columns=names, use_threads=False)
            elif hasattr(self._reader, "num_record_batches"):
                found = (self._reader.get_batch(i) for i in range(self._reader.num_record_batches))
            else:
                found = iter(self._reader)
        while True:
            with _foreign():
                batch = next(found, None)
                if batch is None:
                    return
                batch.validate(full=True)
                batch = batch.select(names)
            yield batch


class _Table:
    """Rows as they come. packed: the bytes of the files so far; unpacked: those of the samples."""

    def __init__(self, schema: pyarrow.Schema, options: Options) -> None:
        from pyarrow import types

        self.schema, self.options, self.packed, self.unpacked, self.rows = schema, options, 0, 0, 0
        if len(set(schema.names)) != len(schema.names):
            raise ValueError("two of its columns have the same name")
        features = _features(schema)
        self.label = schema.names[self._label(features)]
        indices = [name for name in schema.names if re.fullmatch("__index_level_[0-9]+__", name)]  # of pandas
        others = [name for name in schema.names if name != self.label and name not in indices]
        kinds = {name: _plain(schema.field(name).type) for name in others}
        shown = [name for name in others if _is_picture(kinds[name])]
        lists = [name for name in others if _is_list(kinds[name])]
        self.kind = "pictures" if shown else "lists" if lists else "numbers"
        self.columns = shown or lists or others
        if self.kind != "numbers" and len(self.columns) > 1:
            raise ValueError(f"it has {len(self.columns)} columns of {self.kind} ({listed(self.columns)}): keep one")
        if not self.columns:
            raise ValueError("it has no column beside the labels")
        if self.kind == "numbers":
            for name in others:
                if not (types.is_integer(kinds[name]) or types.is_floating(kinds[name])):
                    raise ValueError(
                        f"column {_name(name)} holds {str(kinds[name])[:40]}: make numbers of it, or leave it out"
                    )
        self.left_out = [name for name in (*others, *indices) if name not in self.columns]
        self.wanted = [*self.columns, self.label]
        self.names = features.get(self.label)
        self.x: list[npt.NDArray[Any]] = []
        self.y: list[npt.NDArray[Any]] = []
        self.place: dict[str, int] = {}

    def _label(self, features: dict[str, tuple[str, ...]]) -> int:
        names = self.schema.names
        if self.options.label is None and len(features) == 1:
            return int(names.index(next(iter(features))))
        return label_column(names, self.options.label)

    def add(self, batch: pyarrow.RecordBatch) -> None:
        """Raises ValueError."""
        self._add_labels(_storage(batch.column(len(self.columns))))
        columns = [_storage(batch.column(i)) for i in range(len(self.columns))]
        if self.kind == "pictures":
            self._add_pictures(columns[0])
        elif self.kind == "lists":
            self._add_lists(columns[0], self.schema.field(self.columns[0]).type)
        else:
            self._add(np.stack([self._numbers(c, n) for c, n in zip(columns, self.columns, strict=True)], axis=1))
        self.rows += len(batch)

    def _add(self, x: npt.NDArray[Any]) -> None:
        first = self.x[0].shape[1:] if self.x else x.shape[1:]
        pictures_alike = self.kind == "pictures" and x.shape[2:] == first[1:]
        if x.shape[1:] != first and not pictures_alike:
            mend = f": --resize {first[1]}x{first[2]} scales them all" if self.kind == "pictures" else ""
            raise ValueError(f"sample {self.rows} has the shape {x.shape[1:]}, others have {first}{mend}")
        self.unpacked += x.nbytes
        check_unpacked(self.unpacked, self.packed)
        self.x.append(x)

    def _numbers(self, column: pyarrow.Array, name: str) -> npt.NDArray[Any]:
        if column.null_count:
            raise ValueError(f"column {_name(name)} has empty cells: leave these samples out, or fill them")
        return np.asarray(column.to_numpy(zero_copy_only=False))

    def _add_labels(self, column: pyarrow.Array) -> None:
        from pyarrow import types

        kind = column.type.value_type if types.is_dictionary(column.type) else column.type
        if types.is_string(kind) or types.is_large_string(kind):
            if column.null_count:
                raise ValueError(f"column {_name(self.label)} has empty cells: leave out the samples without a label")
            if not types.is_dictionary(column.type):
                column = column.dictionary_encode()
            if column.dictionary.null_count:
                raise ValueError(f"column {_name(self.label)} has empty cells: leave out the samples without a label")
            texts = [text[:1000] for text in column.dictionary.to_pylist()]
            for text in texts:
                self.place.setdefault(text, len(self.place))
            new = np.array([self.place[text] for text in texts], np.int64)
            self.y.append(new[column.indices.to_numpy(zero_copy_only=False)] if len(column) else np.zeros(0, np.int64))
        elif types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
            column = column.dictionary_decode() if types.is_dictionary(column.type) else column
            self.y.append(self._numbers(column, self.label))
        else:
            raise ValueError(f"column {_name(self.label)} holds {str(kind)[:40]}; expected labels: numbers, or texts")

    def _add_pictures(self, column: pyarrow.Array) -> None:
        contents = column.field("bytes")
        for i in range(len(column)):
            content = contents[i]
            if not column[i].is_valid or not content.is_valid:
                raise ValueError(
                    f"sample {self.rows + i} names a picture without holding it: save the dataset with its pictures"
                )
            try:
                self._add(pictures.decoded(content.as_py(), self.options.resize)[None])
            except ValueError as error:
                raise ValueError(f"{_name(self.columns[0])} of sample {self.rows + i}: {error}") from error

    def _add_lists(self, column: pyarrow.Array, kind: pyarrow.DataType) -> None:
        from pyarrow import types

        shape = [len(column)]
        while _is_list(column.type):
            if column.null_count:
                raise ValueError(f"column {_name(self.columns[0])} has empty cells: leave these samples out")
            values = column.flatten()
            extent = len(values) // max(1, len(column))
            if types.is_fixed_size_list(column.type):
                extent = column.type.list_size
            elif (np.asarray(column.value_lengths().to_numpy(zero_copy_only=False)) != extent).any():
                raise ValueError(f"column {_name(self.columns[0])} holds lists of different lengths")
            shape.append(extent)
            column = values
        if not (types.is_integer(column.type) or types.is_floating(column.type)):
            raise ValueError(
                f"column {_name(self.columns[0])} holds lists of {str(column.type)[:40]}; expected numbers"
            )
        values = self._numbers(column, self.columns[0])
        tensor = getattr(kind, "shape", None)  # of a fixed-shape tensor
        order = getattr(kind, "permutation", None)
        if tensor is not None and order not in (None, list(range(len(tensor)))):
            raise ValueError(f"column {_name(self.columns[0])} holds tensors in another order of axes than usual")
        self._add(values.reshape(shape if tensor is None else (shape[0], *tensor)))

    def raw(self) -> Raw:
        """All of it; ValueError."""
        if not self.rows:
            raise ValueError("the dataset is empty")
        y, names = np.concatenate(self.y), self.names
        notes = [f"left out, as other columns: {listed(self.left_out)}"] if self.left_out else []
        if grey := len({part.shape[1] for part in self.x}) > 1 and sum(part.shape[1] == 1 for part in self.x):
            self.x = [np.broadcast_to(part, (len(part), 3, *part.shape[2:])) for part in self.x]
            notes.append(f"{grey} of {self.rows} pictures are grey, and are repeated in three channels")
        x = np.concatenate(self.x)
        if self.kind == "numbers":
            notes += taken_as_bytes(x, self.options)
        if self.place:
            order, names = number_texts(list(self.place))
            y = order[y]
        return Raw(x, y, names, tuple(notes))


def _name(column: str) -> str:
    return ascii(column)[1:-1][:60]


def _plain(kind: pyarrow.DataType) -> pyarrow.DataType:
    """A type without its extension."""
    return getattr(kind, "storage_type", kind)


def _storage(column: pyarrow.Array) -> pyarrow.Array:
    return getattr(column, "storage", column)


def _is_picture(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    if not types.is_struct(kind):
        return False
    fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    return "bytes" in fields and (types.is_binary(fields["bytes"]) or types.is_large_binary(fields["bytes"]))


def _is_list(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _features(schema: pyarrow.Schema) -> dict[str, tuple[str, ...]]:
    """What `datasets` says of the names of classes, by column."""
    try:
        content = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = content["info"]["features"]
        return {
            name: tuple(feature["names"])
            for name, feature in features.items()
            if name in schema.names and feature.get("_type") == "ClassLabel" and isinstance(feature["names"], list)
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
