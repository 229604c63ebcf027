"""What is fuzzed: honest files, how they are changed, and who reads them.

The honest files are those of the tests' toys, so this runs in a checkout.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import pickle
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from benchmarks.fuzz import mutations
from zkcert.core.transcript import Transcript
from zkcert.errors import MalformedProof, ProofRejected, RangeOverflow, UnusableInput

if TYPE_CHECKING:
    import pyarrow

Judge = Callable[[bytes, bytes, Path], None]
"""Called with an input, the honest file it was made of, and a folder; raises `Fault` for what must not be."""

BAD_FILE = (UnusableInput, RangeOverflow)
REJECTED = (ProofRejected, MalformedProof)
LONGEST_LINE = 1500  # characters of an error


class Fault(Exception):
    """An input was accepted that must not be, or refused in the wrong way."""


@dataclass(frozen=True)
class Target:
    """build writes honest files `seed*` and whatever `load` needs into a folder; `load` gives the judge."""

    name: str
    build: Callable[[Path], None]
    mutate: mutations.Mutation
    load: Callable[[Path], Judge]


def make_input(target: Target, place: Path, seed: int, index: int) -> tuple[bytes, bytes]:
    """Input number `index` and the honest file it is made of: the same for the same files."""
    rng = Random(f"{seed}/{target.name}/{index}")
    honest = rng.choice(sorted(place.glob("seed*"))).read_bytes()
    return mutations.rounds(rng, honest, target.mutate), honest


@contextmanager
def fixed_randomness() -> Iterator[None]:
    """What is made in the block is the same at every run."""
    numbers = itertools.count()
    with mock.patch("secrets.token_bytes", lambda size: Random(f"fuzz/{next(numbers)}").randbytes(size)):
        yield


def _expect(errors: tuple[type[Exception], ...], call: Callable[[], object]) -> bool:
    """Whether the call succeeds; Fault if its error takes many lines to read. Errors of other types pass."""
    try:
        call()
    except errors as error:
        if len(str(error)) > LONGEST_LINE:
            raise Fault(f"an error of {len(str(error))} characters: {str(error)[:200]}") from error
        return False
    return True


def _file_judge(name: str, read: Callable[[Path], object]) -> Judge:
    def judge(data: bytes, honest: bytes, place: Path) -> None:
        path = place / name
        path.write_bytes(data)
        if not _expect(BAD_FILE, lambda: read(path)) and data == honest:
            raise Fault("the honest file is refused")

    return judge


# ----------------------------------------------------------------------------------------------- proofs


def _build_proofs(place: Path) -> None:
    from tests.toys import certified

    (place / "seed").write_bytes(certified().proved.data)
    certified().model.save(place / "model.safetensors")


def _load_proofs(place: Path) -> Judge:
    from verifier.verify import Expectations, verify_proof
    from zkcert.public.model import Model

    model, expected = Model.load(place / "model.safetensors"), Expectations(Fraction(128))

    def judge(data: bytes, honest: bytes, place: Path) -> None:
        if _expect(REJECTED, lambda: verify_proof(data, model, expected)) != (data == honest):
            raise Fault("a changed proof is accepted" if data != honest else "the honest proof is refused")

    return judge


class Deaf(Transcript):
    """Draws the same challenges whatever is said, so that a change is met by the check that is about it."""

    def absorb(self, label: str, data: bytes) -> None:
        """Hears nothing."""

    def check_grind(self, nonce: int, bits: int) -> bool:
        return nonce == 0


def _toy(name: str) -> tuple[Any, Callable[[int], Any]]:
    """The layout of a toy circuit, and what makes its witnesses."""
    from tests import functions, toys

    if name == "lookups":
        return functions.function_layout(), functions.function_witness
    return toys.toy_layout(), toys.toy_witness


def _build_arguments(place: Path, name: str) -> None:
    from prover.argument import prove_circuit

    layout, witness = _toy(name)
    with mock.patch("prover.grinding.grind", lambda transcript, bits: 0):
        for i in range(2):
            (place / f"seed{i}").write_bytes(prove_circuit(layout, witness(i), Deaf("fuzz")))


def _load_arguments(place: Path, name: str) -> Judge:
    from verifier.argument import verify_circuit

    layout, _ = _toy(name)

    def judge(data: bytes, honest: bytes, place: Path) -> None:
        if _expect(REJECTED, lambda: verify_circuit(layout, Deaf("fuzz"), data)) != (data == honest):
            raise Fault("a changed entry is checked by nobody" if data != honest else "the honest argument is refused")

    return judge


# ------------------------------------------------------------------------------------- models and statements


def _build_models(place: Path, suffix: str) -> None:
    from tests.builders import random_graph
    from tests.toys import tiny_model
    from zkcert.public.model import Model

    graphs = [random_graph(np.random.default_rng(seed)) for seed in range(4)]
    models = [tiny_model(), *(Model(g.nodes, g.spec, g.params) for g in graphs)]
    for i, model in enumerate(models):
        model.save(file := place / f"seed{i}{suffix}")
        file.rename(place / f"seed{i}")


def _load_models(place: Path, suffix: str) -> Judge:
    from verifier.files import read_model

    def read(path: Path) -> None:
        model, _ = read_model(path)
        assert len(model.weights_digest) == 32 and model.circuit_digest_json() and model.shapes

    return _file_judge(f"model{suffix}", read)


def _build_roots(place: Path) -> None:
    from tests.toys import tiny_dataset
    from zkcert.files.saving import save_root

    save_root(tiny_dataset().root, place / "seed")


def _load_roots(place: Path) -> Judge:
    from zkcert.api.files import load_root
    from zkcert.files.saving import save_root
    from zkcert.public.root import DatasetRoot

    def read(path: Path) -> None:
        root = load_root(path)
        save_root(root, again := path.with_suffix(".again"), force=True)
        if DatasetRoot.load(again) != root or len(root.commitment_digest()) != 32:
            raise Fault("a root is not read as it was written")

    return _file_judge("data.root", read)


def _build_announcements(place: Path) -> None:
    from tests.toys import tiny_dataset, tiny_model
    from zkcert.files.saving import save_announcement
    from zkcert.public.config import ProbeConfig
    from zkcert.public.statement import Statement

    config = ProbeConfig(steps=2, batch_size=3, lr=Fraction(1, 80))
    save_announcement(Statement.of(tiny_model(), tiny_dataset().root, config, Fraction(30)), place / "seed")


def _load_announcements(place: Path) -> Judge:
    from zkcert.files.saving import save_announcement
    from zkcert.public.kinds import ANNOUNCEMENT, expecting
    from zkcert.public.statement import load_announcement

    def read(path: Path) -> None:
        with expecting(path, ANNOUNCEMENT):
            statement = load_announcement(path)
        save_announcement(statement, again := path.with_suffix(".again"), force=True)
        if load_announcement(again) != statement:
            raise Fault("an announcement is not read as it was written")

    return _file_judge("announce.json", read)


def _build_calibrations(place: Path) -> None:
    from zkcert.calibration import Calibration, Scored, Source, choose_tau
    from zkcert.calibration.reading import rank_auc
    from zkcert.calibration.record import Rate
    from zkcert.files.saving import save_calibration

    probe: dict[str, int | str] = {"steps": 2, "batch_size": 3, "rho": "1/20", "lr": "1/10000", "eps": "1/100000000"}
    probe |= {"eta": "1/100", "variant": "asam-all", "statistic": "std-log-ratio", "batch_norm": "eval"}
    low, high = (0.125, 0.25, 0.5), (0.375, 0.75, 1.0)
    data = (Source("data.npz", 40, "ab" * 32),)
    good, bad = (
        (Scored(name, digit * 64, "ab" * 32, scores),) for name, digit, scores in (("g", "1", low), ("b", "2", high))
    )
    for i, risk in enumerate((Fraction(0), Fraction(1, 2))):
        tau = choose_tau(low, high, risk)
        wrong, missed = bad[0].accepted(tau), 3 - good[0].accepted(tau)
        rates = Rate(wrong, 3, 0.0, 1.0), Rate(missed, 3, 0.0, 1.0)
        auc = rank_auc(low, high)
        save_calibration(Calibration(tau, risk, probe, "s", good, bad, data, *rates, auc, "0.1.0"), place / f"seed{i}")


def _load_calibrations(place: Path) -> Judge:
    from zkcert.calibration import load_calibration
    from zkcert.files.saving import save_calibration

    def read(path: Path) -> None:
        calibration = load_calibration(path)
        calibration.warnings()
        save_calibration(calibration, again := path.with_suffix(".again"), force=True)
        if load_calibration(again) != calibration:
            raise Fault("a calibration is not read as it was written")
        calibration.config()

    return _file_judge("calibration.json", read)


# --------------------------------------------------------------------------------------------- datasets


def _samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (8, 1, 3, 4), dtype=np.uint8), np.arange(8) % 3


def _dataset_reader(labels: Path | None = None) -> Callable[..., object]:
    """A function that reads a dataset, and raises `Fault` if it is not as it must be."""
    from zkcert.data.committed import schema_of
    from zkcert.data.dataset import load_dataset
    from zkcert.public.root import Schema

    def read(path: Path, **options: Any) -> bool:
        loaded = load_dataset(path if labels is None else [path, labels], **options)
        loaded.warnings()
        schema = schema_of(loaded)
        if Schema.from_dict(json.loads(schema.to_bytes())) != schema:
            raise Fault("a schema is not read as it was written")
        x, y = loaded.x, loaded.y
        if x.ndim != 4 or len(x) != len(y) or x.dtype not in (np.uint8, np.float32) or not np.isfinite(x).all():
            raise Fault(f"samples of {x.dtype} and shape {x.shape}")
        if y.dtype != np.int64 or y.min() < 0 or y.max() >= 1 << 16:
            raise Fault(f"labels of {y.dtype} from {y.min()} to {y.max()}")
        return True

    return read


def _load_dataset(place: Path, name: str, labels: str = "") -> Judge:
    return _file_judge(name, _dataset_reader(place / labels if labels else None))


def _token_reader(**options: Any) -> Callable[[Path], object]:
    """Likewise, of windows of tokens."""
    from zkcert.data.committed import schema_of
    from zkcert.data.dataset import load_dataset
    from zkcert.data.summary import summary_of
    from zkcert.public.root import Schema

    def read(path: Path) -> bool:
        loaded = load_dataset(path, context=3, **options)
        schema = schema_of(loaded)
        if Schema.from_dict(json.loads(schema.to_bytes())) != schema:
            raise Fault("a schema is not read as it was written")
        if loaded.x.dtype != np.uint16 or loaded.x.shape[1:] != (1, 1, 3) or loaded.largest >= schema.classes:
            raise Fault(f"windows of {loaded.x.dtype} and shape {loaded.x.shape}, tokens up to {loaded.largest}")
        summary_of(loaded.x, loaded.y, loaded.names).lines()
        return True

    return read


def _load_tokens(place: Path, name: str, **options: Any) -> Judge:
    return _file_judge(name, _token_reader(**options))


def _load_vocabulary(place: Path) -> Judge:
    (place / "text.txt").write_text("abba cabba\n" * 2)
    return _file_judge("v.json", lambda path: _token_reader(vocabulary=str(path))(place / "text.txt"))


def _build_tokens(place: Path) -> None:
    for i, array in enumerate((np.arange(19) % 7, (np.arange(24).reshape(6, 4) % 5).astype(">u2"))):
        np.save(place / f"{i}.npy", array)
        (place / f"{i}.npy").rename(place / f"seed{i}")


def _build_texts(place: Path) -> None:
    (place / "seed0").write_text("abba cabba\n" * 2)
    (place / "seed1").write_text("\ufeff\u00e4\U0001f600b\\ \r\n" * 3, encoding="utf-8")


def _build_vocabularies(place: Path) -> None:
    (place / "seed").write_text(json.dumps(["\n", " ", "c", "b", "a", "\u00e4"]))


def _build_npz(place: Path) -> None:
    x, y = _samples()
    for i, save in enumerate((np.savez, np.savez_compressed)):
        save(place / f"{i}.npz", x=x / np.float32(256) if i else x, y=y)
        (place / f"{i}.npz").rename(place / f"seed{i}")


def _build_npy(place: Path) -> None:
    x, y = _samples()
    np.save(place / "labels.npy", y)
    for i, array in enumerate((x, x[:, 0].astype(">i4"), x / 256)):
        np.save(place / f"{i}.npy", array)
        (place / f"{i}.npy").rename(place / f"seed{i}")


def _idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def _build_idx(place: Path) -> None:
    x, y = _samples()
    (place / "seed").write_bytes(_idx(x[:, 0]))
    (place / "labels").write_bytes(_idx(y.astype(np.uint8)))


def _build_gzip(place: Path) -> None:
    _build_idx(place)
    (place / "seed").write_bytes(gzip.compress((place / "seed").read_bytes(), mtime=0))


def _build_cifar(place: Path) -> None:
    pixels = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
    batches: list[dict[object, object]] = [
        {"data": pixels, "labels": [3, 1], "filenames": ["a", "b"]},
        {b"data": pixels, b"fine_labels": np.array([3, 1]), b"batch_label": b"x"},
    ]
    for i, (batch, protocol) in enumerate(itertools.product(batches, (2, 3, 4, 5))):
        (place / f"seed{i}").write_bytes(pickle.dumps(batch, protocol))


def _build_pictures(place: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    colour = Image.fromarray(pixels)
    seeds = {
        "png": (colour, {}),
        "grey.png": (colour.convert("L"), {}),
        "palette.png": (colour.quantize(16), {}),
        "alpha.png": (colour.convert("RGBA"), {}),
        "key.png": (colour, {"transparency": (1, 2, 3)}),
        "jpg": (colour, {"icc_profile": b"profile" * 9}),
        "progressive.jpg": (colour.resize((32, 32)), {"progressive": True}),
    }
    for name, (picture, options) in seeds.items():
        picture.save(place / f"a.{name}", **options)
        (place / f"a.{name}").rename(place / f"seed-{name}")
    (place / "folder" / "b").mkdir(parents=True)
    (place / "folder" / "a").mkdir()
    colour.save(place / "folder" / "b" / "0.png")


def _load_pictures(place: Path) -> Judge:
    read = _dataset_reader()

    def judge(data: bytes, honest: bytes, place: Path) -> None:
        (place / "folder" / "a" / "0.png").write_bytes(data)
        _expect(BAD_FILE, lambda: read(place / "folder"))
        if not _expect(BAD_FILE, lambda: read(place / "folder", resize=(6, 8))) and data == honest:
            raise Fault("the honest file is refused")

    return judge


def _build_csv(place: Path) -> None:
    (place / "seed0").write_text("a,b,label\n" + "1,2.5,cat\n-3e2,0,dog\n" * 2)
    (place / "seed1").write_bytes(b"y;p0;p1\r\n" + b"3;255;0\r\n1;7;9\r\n" * 3)
    (place / "seed2").write_text('\ufeffa\tb\tclass\n1\t2\t"a ""b"""\n', encoding="utf-8")


def _tables() -> Iterator[tuple[str, pyarrow.Table]]:
    import pyarrow
    from PIL import Image

    x, y = _samples()
    contents = []
    for sample in x:
        Image.fromarray(sample[0]).save(stream := io.BytesIO(), "PNG")
        contents.append({"bytes": stream.getvalue(), "path": None})
    names = {"info": {"features": {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}
    pictures = pyarrow.table({"image": contents, "label": y})
    yield "pictures", pictures.replace_schema_metadata({"huggingface": json.dumps(names)})
    yield "numbers", pyarrow.table({"a": x[:, 0, 0, 0], "b": x[:, 0, 0, 1] / 8, "label": ["cat", "dog"] * 4})
    texts = pyarrow.array(["cat", "dog"] * 4).dictionary_encode()
    yield "lists", pyarrow.table({"x": pyarrow.array(x[:, 0].tolist()), "label": texts})


def _build_parquet(place: Path) -> None:
    from pyarrow import parquet

    for name, table in _tables():
        for codec in ("none", "zstd"):
            parquet.write_table(
                table, place / f"seed-{name}-{codec}", compression=codec, use_dictionary=codec == "zstd"
            )


def _build_arrow(place: Path) -> None:
    from pyarrow import ipc

    for name, table in _tables():
        for kind, new in (("file", ipc.new_file), ("stream", ipc.new_stream)):
            for codec in (None, "lz4"):
                options = ipc.IpcWriteOptions(compression=codec)
                with new(place / f"seed-{name}-{kind}-{codec}", table.schema, options=options) as out:
                    out.write_table(table)


def _build_saved(place: Path) -> None:
    from pyarrow import ipc

    (place / "saved").mkdir()
    table = next(table for name, table in _tables() if name == "pictures")
    for i in range(2):
        with ipc.new_stream(place / "saved" / f"data-{i}.arrow", table.schema) as out:
            out.write_table(table)
    files = [{"filename": f"data-{i}.arrow"} for i in range(2)]
    (place / "seed").write_text(json.dumps({"_data_files": files, "_fingerprint": "x", "_split": None}, indent=2))


def _load_saved(place: Path) -> Judge:
    read = _dataset_reader()

    def judge(data: bytes, honest: bytes, place: Path) -> None:
        (place / "saved" / "state.json").write_bytes(data)
        if not _expect(BAD_FILE, lambda: read(place / "saved")) and data == honest:
            raise Fault("the honest file is refused")

    return judge


def _build_onnx(place: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {"c": rng.standard_normal((3, 1, 3, 3)), "b": rng.standard_normal(3), "v": np.ones(3)}
    weights["w"] = rng.standard_normal((2, 12))
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    initializers += [numpy_helper.from_array(np.array([0, -1]), "t")]
    for i, pool in enumerate(("MaxPool", "AveragePool")):
        nodes = [
            helper.make_node("Conv", ["x", "c", "b"], ["1"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["1", "v", "b", "b", "v"], ["2"]),
            helper.make_node("LeakyRelu" if i else "Relu", ["2"], ["3"]),
            helper.make_node("Add", ["3", "3"], ["4"]),
            helper.make_node(pool, ["4"], ["5"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Reshape", ["5", "t"], ["6"]) if i else helper.make_node("Flatten", ["5"], ["6"]),
            helper.make_node("Gemm", ["6", "w"], ["7"], transB=1),
        ]
        values = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, d) for n, d in (("x", ["n", 1, 4, 4]), ("7", None))
        ]
        graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializers if i else initializers[:-1])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        (place / f"seed{i}").write_bytes(model.SerializeToString())


def _load_onnx(place: Path) -> Judge:
    from zkcert.api.sources import read_source

    def read(path: Path) -> None:
        found = read_source(path, input={"mean": 0.5, "std": 0.25})
        if found.model is None:
            raise found.refusal

    return _file_judge("model.onnx", read)


def _build_checkpoints(place: Path) -> None:
    import torch

    state = {"0.weight": torch.ones(2, 3), "0.bias": torch.zeros(2)}
    for i, content in enumerate((state, {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 1})):
        torch.save(content, place / f"seed{i}")


def _load_checkpoints(place: Path) -> Judge:
    import torch

    from zkcert.sources.checkpoint import load_weights

    return _file_judge("weights.pth", lambda path: load_weights(torch.nn.Sequential(torch.nn.Linear(3, 2)), path))


def _build_secret(place: Path) -> None:
    from zkcert.data.committed import commit

    x, y = _samples()
    np.savez(place / "data.npz", x=x, y=y)
    commit(place / "data.npz", place / "data.zkd")
    (place / "data.zkd").rename(place / "seed")


def _load_secret(place: Path) -> Judge:
    from zkcert.api.files import open_dataset

    def read(path: Path) -> None:
        opened = open_dataset(path)
        opened.images([0]), opened.labels([opened.n - 1]), opened.sample_hashes([0])

    return _file_judge("data.zkd", read)


TARGETS = {
    target.name: target
    for target in (
        Target("proofs", _build_proofs, mutations.as_proof, _load_proofs),
        *(
            Target(
                name, partial(_build_arguments, name=name), mutations.as_argument, partial(_load_arguments, name=name)
            )
            for name in ("arguments", "lookups")
        ),
        Target("pt", partial(_build_models, suffix=".pt"), mutations.as_torch, partial(_load_models, suffix=".pt")),
        Target(
            "safetensors",
            partial(_build_models, suffix=".safetensors"),
            mutations.as_safetensors,
            partial(_load_models, suffix=".safetensors"),
        ),
        Target("roots", _build_roots, mutations.as_json, _load_roots),
        Target("announcements", _build_announcements, mutations.as_announcement, _load_announcements),
        Target("calibrations", _build_calibrations, mutations.as_json, _load_calibrations),
        Target("npz", _build_npz, mutations.as_npz, partial(_load_dataset, name="data.npz")),
        Target("npy", _build_npy, mutations.as_npy, partial(_load_dataset, name="images.npy", labels="labels.npy")),
        Target("tokens", _build_tokens, mutations.as_npy, partial(_load_tokens, name="tokens.npy")),
        Target(
            "texts", _build_texts, mutations.as_bytes, partial(_load_tokens, name="text.txt", vocabulary="characters")
        ),
        Target("vocabularies", _build_vocabularies, mutations.as_json, _load_vocabulary),
        Target("idx", _build_idx, mutations.as_idx, partial(_load_dataset, name="images", labels="labels")),
        Target("gzip", _build_gzip, mutations.as_gzip, partial(_load_dataset, name="images.gz", labels="labels")),
        Target("cifar", _build_cifar, mutations.as_pickle, partial(_load_dataset, name="data_batch_1")),
        Target("pictures", _build_pictures, mutations.as_picture, _load_pictures),
        Target("csv", _build_csv, mutations.as_csv, partial(_load_dataset, name="data.csv")),
        Target("parquet", _build_parquet, mutations.as_parquet, partial(_load_dataset, name="data.parquet")),
        Target("arrow", _build_arrow, mutations.as_arrow, partial(_load_dataset, name="data.arrow")),
        Target("saved", _build_saved, mutations.as_json, _load_saved),
        Target("onnx", _build_onnx, mutations.as_onnx, _load_onnx),
        Target("checkpoints", _build_checkpoints, mutations.as_torch, _load_checkpoints),
        Target("secret", _build_secret, mutations.as_secret, _load_secret),
    )
}


def build(target: Target) -> tempfile.TemporaryDirectory[str]:
    """A new folder with the target's honest files."""
    folder = tempfile.TemporaryDirectory(prefix="zkcert-fuzz-")
    with fixed_randomness():
        target.build(Path(folder.name))
    return folder
