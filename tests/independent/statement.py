"""The statement (statement.md): header, digests, seed, drawn samples, limits before a circuit is built."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

import blake3
from Crypto.Cipher import AES

from .errors import Reject, require
from .field import bits
from .files import Model, canonical, is_int, parse_json
from .transcript import H, u32, u64

HEX32 = re.compile(r"[0-9a-f]{64}\Z")
RATIONAL = re.compile(r"(0|[1-9][0-9]*)(?:/([1-9][0-9]*))?\Z")


def rational(text: object, what: str) -> Fraction:
    """A non-negative rational in lowest terms."""
    match = RATIONAL.match(text) if isinstance(text, str) and len(text) <= 100 else None
    if match is None:
        raise Reject("statement", what)
    value = Fraction(int(match[1]), int(match[2] or 1))
    require(str(value) == text, "statement", f"{what} is not in lowest terms")
    return value


def check_schema(schema: object) -> dict:
    """The schema of a dataset."""
    require(isinstance(schema, dict), "statement", "schema")
    s: dict = schema
    keys = {"classes", "kind", "label_bytes", "shape"}
    require(set(s) in (keys, keys | {"names"}), "statement", "keys of the schema")
    require(is_int(s["classes"], 1, 1 << 16) and s["kind"] in ("u8", "q32", "tokens"), "statement", "schema")
    label_bytes = 1 if s["classes"] <= 256 else 2
    require(is_int(s["label_bytes"], label_bytes, label_bytes), "statement", "label_bytes")
    require(isinstance(s["shape"], list) and len(s["shape"]) == 3, "statement", "shape")
    require(all(is_int(n, 1, 1 << 24) for n in s["shape"]) and math.prod(s["shape"]) <= 1 << 24, "statement", "shape")
    require(s["kind"] != "tokens" or s["shape"][:2] == [1, 1], "statement", "shape of tokens")
    if "names" in s:
        check_names(s["names"], s["classes"])
    return s


def check_names(names: object, classes: int) -> None:
    """What the labels stand for."""
    require(isinstance(names, list), "statement", "names")
    texts: list = names
    require(len(texts) == classes and all(isinstance(t, str) for t in texts), "statement", "names")
    require(len(set(texts)) == classes and len(canonical(texts)) <= 49152, "statement", "names")
    for t in texts:
        points = [ord(c) for c in t]
        require(1 <= len(points) <= 200, "statement", "length of a name")
        for c in points:
            require(not (c < 0x20 or 0x7F <= c <= 0x9F or 0xD800 <= c <= 0xDFFF), "statement", "a name")
        require(points[0] not in (0x20, 0xA0) and points[-1] not in (0x20, 0xA0), "statement", "ends of a name")


@dataclass
class Statement:
    """What a header says, read."""

    raw: bytes
    announcement: dict
    beacon: bytes | None
    variance: int | None
    steps: int
    batch: int
    rho: Fraction
    divisor: int
    eps: Fraction
    variant: str
    ddof: int
    statistic: str
    eta: Fraction | None
    tau: Fraction
    schema: dict
    samples: int
    root: bytes


def parse_config(config: object) -> dict:
    """The configuration, with its ranges."""
    require(isinstance(config, dict), "statement", "config")
    c: dict = config
    keys = {"steps", "batch_size", "rho", "lr", "eps", "variant", "ddof"}
    more = {"eta"} if c.get("variant") in ("asam-samsung", "asam-shifted") else set()
    more |= {"statistic"} & set(c)
    require(set(c) == keys | more, "statement", "keys of the configuration")
    require(c.get("statistic", "rms") in ("std", "rms", "max"), "statement", "statistic")
    require(is_int(c["steps"], 2, 1 << 16) and is_int(c["batch_size"], 1, 1 << 16), "statement", "steps, batch_size")
    rho, lr, eps = (rational(c[k], k) for k in ("rho", "lr", "eps"))
    require(0 < rho < 8 and rho.numerator < 1 << 20 and rho.denominator < 1 << 20, "statement", "rho")
    require(lr > 0, "statement", "lr")
    d = Fraction(c["batch_size"]) / lr
    require(d.denominator == 1 and 1 <= d <= 1 << 22, "statement", "D")
    require(0 <= eps < 1 and eps.denominator < 1 << 40, "statement", "eps")
    require(c["variant"] in ("asam-all", "sam", "asam-samsung", "asam-shifted"), "statement", "variant")
    most = 0 if c.get("statistic") in ("rms", "max") else c["steps"] - 1
    require(is_int(c["ddof"], 0, most), "statement", "ddof")
    if "eta" in c:
        eta = rational(c["eta"], "eta")
        require(0 < eta < 8 and eta.numerator < 1 << 20 and eta.denominator < 1 << 20, "statement", "eta")
    return c


def parse_header(raw: bytes) -> Statement:
    """Read a header; anything that is not as it would be written is refused."""
    h = parse_json(raw, "header")
    require(isinstance(h, dict), "malformed", "header")
    header: dict = h
    keys = {"circuit", "config", "dataset", "format", "tau", "weights", "beacon", "variance"}
    named = header.get("format") == "zkcert-announcement-3-drand"
    require(set(header) == keys | ({"drand"} if named else set()), "statement", "keys of the header")
    require(canonical(header) == raw, "statement", "the header is not in its form")
    require(named or header["format"] == "zkcert-announcement-3", "statement", "format")
    if named:
        drand = header["drand"]
        require(isinstance(drand, dict) and set(drand) == {"chain", "round"}, "statement", "drand")
        require(isinstance(drand["chain"], str) and HEX32.match(drand["chain"]), "statement", "chain")
        require(is_int(drand["round"], 1, (1 << 40) - 1), "statement", "round")
    for key in ("circuit", "weights"):
        require(isinstance(header[key], str) and HEX32.match(header[key]), "statement", key)
    config = parse_config(header["config"])
    data = header["dataset"]
    require(isinstance(data, dict) and set(data) == {"N", "root", "schema"}, "statement", "dataset")
    require(is_int(data["N"], 1, (1 << 40) - 1), "statement", "N")
    require(isinstance(data["root"], str) and HEX32.match(data["root"]), "statement", "root")
    schema = check_schema(data["schema"])
    tau = rational(header["tau"], "tau")
    require(0 <= tau <= 128 and tau.denominator < 1 << 40, "statement", "tau")
    beacon, variance = header["beacon"], header["variance"]
    if beacon is not None:
        require(isinstance(beacon, str) and re.match(r"([0-9a-f]{2}){1,128}\Z", beacon), "statement", "beacon")
    if variance is not None:
        require(isinstance(variance, str) and re.match(r"(0|[1-9][0-9]{0,39})\Z", variance), "statement", "variance")
    rho, lr, eps = (rational(config[k], k) for k in ("rho", "lr", "eps"))
    return Statement(
        raw,
        {k: v for k, v in header.items() if k not in ("beacon", "variance")},
        None if beacon is None else bytes.fromhex(beacon),
        None if variance is None else int(variance),
        config["steps"],
        config["batch_size"],
        rho,
        int(config["batch_size"] / lr),
        eps,
        config["variant"],
        config["ddof"],
        config.get("statistic", "std-log-ratio"),
        rational(config["eta"], "eta") if "eta" in config else None,
        tau,
        schema,
        data["N"],
        bytes.fromhex(data["root"]),
    )


def circuit_digest(model: Model) -> bytes:
    return H(b"zkcert/circuit/1" + canonical({"graph": model.graph, "input": model.input}))


def weights_digest(model: Model) -> bytes:
    out = [b"zkcert weights v1\0", u64(len(model.names))]
    for name in model.names:
        t = model.tensors[name]
        size, numbers = t.hashed()
        out += [u64(len(name)), u64(size), u64(len(t.shape)), name.encode()]
        out += [u64(n) for n in t.shape] + [numbers]
    return H(b"".join(out))


def config_digest(config: dict) -> bytes:
    return H(b"zkcert config v1\0" + canonical(config))


def dataset_digest(schema: dict, samples: int, root: bytes) -> bytes:
    s = canonical(schema)
    return H(b"zkcert/data/commitment/1" + u32(len(s)) + s + u64(samples) + root)


def announcement_digest(announcement: dict) -> bytes:
    return H(b"zkcert/announcement/1" + canonical(announcement))


def seed(s: Statement) -> bytes:
    """The seed of the draw."""
    a = s.announcement
    parts = [b"zkcert-3", bytes.fromhex(a["circuit"]), config_digest(a["config"]), bytes.fromhex(a["weights"])]
    parts += [dataset_digest(s.schema, s.samples, s.root), b"\0" if s.beacon is None else b"\1" + s.beacon]
    return H(b"zkcert/seed/1" + b"".join(u64(len(p)) + p for p in parts))


def drawn(r: bytes, n: int, count: int) -> list[int]:
    """pi(0), ..., pi(count - 1) for the permutation of [0, n) under the key r."""
    key = blake3.blake3(r, derive_key_context="zkcert sampling permutation v1").digest()
    cipher = AES.new(key, AES.MODE_ECB)
    half = max(1, -(-bits(n) // 2))
    mask = (1 << half) - 1

    def network(x: int) -> int:
        left, right = x >> half, x & mask
        for j in range(12):
            block = cipher.encrypt(u32(j) + u32(right) + u64(n))
            left, right = right, left ^ (int.from_bytes(block[:8], "little") & mask)
        return left << half | right

    out = []
    for x in range(count):
        y = network(x)
        while y >= n:
            y = network(y)
        out.append(y)
    return out


def check_fit(s: Statement, model: Model) -> None:
    """What must fit, and the limits before a circuit is built."""
    require(circuit_digest(model).hex() == s.announcement["circuit"], "statement", "another circuit than the model's")
    require(weights_digest(model).hex() == s.announcement["weights"], "statement", "other weights than the model's")
    shape, pad = model.input["shape"], model.pad
    require(shape == s.schema["shape"], "statement", "shape of the samples")
    require(model.shapes[-1][0] == s.schema["classes"], "statement", "number of classes")
    of_tokens = s.schema["kind"] == "tokens"
    require(of_tokens == (model.tokens is not None), "statement", "kind of the data")
    require(s.steps * s.batch <= s.samples, "statement", "too few samples")
    c, h, w = shape
    width = 1 if s.schema["kind"] == "u8" else 6
    require(s.steps <= 1024 and s.steps * s.batch <= 65536, "limits", "steps and samples")
    require(c * (h + 2 * pad) * (w + 2 * pad) <= 1 << 18, "limits", "padded size")
    n = c * h * w * width + s.schema["label_bytes"]
    if of_tokens:
        width = s.schema["label_bytes"]
        n = (w + 1) * width
    require(c <= 1024 and c * width * n <= 1 << 24, "limits", "channels")
    norms = sum(model.shapes[i][0] for i, g in enumerate(model.graph) if g["op"] == "batchnorm2d")
    require(norms <= 1 << 17, "limits", "batch-norm channels")
    require(2 <= s.schema["classes"] <= 1023, "limits", "classes")
