"""Real chains and rounds of drand, and chains of our own whose key we hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from zkcert.trust.drand import SCHEMES, Chain, Scheme
from zkcert.trust.points import G1, G2, OTHER, times

FASTNET = {
    "public_key": "a0b862a7527fee3a731bcb59280ab6abd62d5c0b6ea03dc4ddf6612fdfc9d01f01c31542541771903475eb1ec6615f8d"
    "0df0b8b6dce385811d6dcf8cbefb8759e5e616a3dfd054c928940766d9a5b9db91e3b697e5d70a975181e007f87fca5e",
    "period": 3,
    "genesis_time": 1677685200,
    "hash": "dbd506d6ef76e5f386f41c651dcb808c5bcbd75471cc4eafa3f4df7ad4e4c493",
    "groupHash": "a81e9d63f614ccdb144b8ff79fbd4d5a2d22055c0bfe4ee9a8092003dab1c6c0",
    "schemeID": "bls-unchained-on-g1",
    "metadata": {"beaconID": "fastnet"},
}
UNCHAINED = {  # in the words of drand's second version
    "public_key": "8200fc249deb0148eb918d6e213980c5d01acd7fc251900d9260136da3b54836ce125172399ddc69c4e3e11429b62c11",
    "beacon_id": "testnet-unchained-3s",
    "period": 3,
    "scheme": "pedersen-bls-unchained",
    "genesis_time": 1651677099,
    "genesis_seed": "65083634d852ae169e21b6ce5f0410be9ed4cc679b9970236f7875cff667e13d",
    "chain_hash": "7672797f548f3f4748ac4bf3352fc6c6b6468c9ad40ad456a397545c6e2df5bf",
}
REAL = {
    ("quicknet", 657413): {
        "round": 657413,
        "randomness": "fc1873a13f3545aeade8401532ef5519920652eee6b0d2b19ca12643b87b3587",
        "signature": "b713718a38ae728dfd477991af2822e08d2f305e47718cef9f7848ce4050e7be41076862b98fad56e91a6b85b89cd97b",
    },
    ("default", 3311596): {
        "round": 3311596,
        "randomness": "647c07b2abbf7ff2afb4d670214f565e5cd9f9c91bfdcecb59a21f3c78d73920",
        "signature": "a696b9409ababce45749c3a4ec369074453dd4a79967734e1390d969c8ad8d98897d217b9121e92c8ddebbddda8d92f9"
        "00e3bd6bf9deb166863b1a19390d743f82774001487594c5c09e581db7365f02b70a2c8cc41ce32446ef08e4890c4754",
        "previous_signature": "8ed588f2a7716fb1349e2d9803da5db0005e98a83783c353d4a08f183236a9ad91d70ddb01266f4b7c576983"
        "db464b430e65680b9e0098552758afd6c1e6afcb77e3f62fe1b93d42d1cb63abbb2205512fe12fbf74ea9c5ac3b8f5c1e283a1d8",
    },
    ("default", 1): {  # which signs the chain's seed
        "round": 1,
        "randomness": "101297f1ca7dc44ef6088d94ad5fb7ba03455dc33d53ddb412bbc4564ed986ec",
        "signature": "8d61d9100567de44682506aea1a7a6fa6e5491cd27a0a0ed349ef6910ac5ac20ff7bc3e09d7c046566c9f7f3c6f3b101"
        "04990e7cb424998203d8f7de586fb7fa5f60045417a432684f85093b06ca91c769f0e7ca19268375e659c2a2352b4655",
        "previous_signature": "176f93498eac9ca337150b46d21dd58673ea4e3581185f869672e59fa4cb390a",
    },
    ("fastnet", 614294): {
        "round": 614294,
        "randomness": "b1c2d777e51e53e6817e4ee6e8ab79b2fa8d75ae8c63866ee84303239b25d54e",
        "signature": "b1e0bb6804f576b77d562169a5fab44116711e89a4a8ccbf0c237ef20841880b472ef28ad57fb9da6a507411d5c8a9bf",
    },
    ("testnet-unchained-3s", 7601003): {
        "round": 7601003,
        "signature": "af7eac5897b72401c0f248a26b612c5ef68e0ff830b4d78927988c89b5db3e997bfcdb7c24cb19f549830cd02cb854a1"
        "143fd53a1d4e0713ded471260869439060d170a77187eb6371742840e43eccfa225657c4cc2d9619f7c3d680470c9743",
    },
}
"""As drand's servers give them: api.drand.sh, its testnet, and the tests of github.com/drand/drand."""


@dataclass(frozen=True)
class Own:
    """A chain of one node, whose secret is known: its rounds are out whenever we like."""

    chain: Chain
    secret: int

    @staticmethod
    def make(genesis: int = 1_700_000_000, scheme: str = "bls-unchained-g1-rfc9380", secret: int = 11) -> Own:
        """One of a period of 10 s."""
        kind = SCHEMES[scheme]
        keys = OTHER[G1 if kind.group == "G1" else G2]
        key = keys.encode(times(keys.base, secret))
        return Own(Chain("our-own", key, kind, genesis, 10, sha256(key).digest()), secret)

    def info(self) -> dict[str, object]:
        chain = self.chain
        return {
            "public_key": chain.key.hex(),
            "period": chain.period,
            "genesis_time": chain.genesis,
            "hash": chain.hash.hex(),
            "groupHash": chain.seed.hex(),
            "schemeID": chain.scheme.name,
            "metadata": {"beaconID": chain.name},
        }

    def sign(self, number: int, previous: bytes = b"", scheme: Scheme | None = None) -> dict[str, object]:
        """A round; of another scheme: signed as that does, whatever the chain says."""
        kind = scheme or self.chain.scheme
        group = G1 if kind.group == "G1" else G2
        message = sha256(previous + number.to_bytes(8, "big")).digest()
        signature = group.encode(times(group.hash(message, kind.tag), self.secret))
        found: dict[str, object] = {"round": number, "signature": signature.hex()}
        return {**found, "previous_signature": previous.hex()} if previous else found


def write(path: Path, value: object) -> Path:
    """JSON as a server sends it."""
    path.write_text(json.dumps(value))
    return path
