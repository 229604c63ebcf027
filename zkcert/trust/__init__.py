"""Trust around a proof: who chose the beacon, what came before it, who vouches for the data (docs/TRUST.md).

Everything is checked from files. Nothing of this is loaded by `python -m verifier`. What computes on elliptic curves
needs py_ecc, time stamps need rfc3161-client: the extra `trust`.
"""
