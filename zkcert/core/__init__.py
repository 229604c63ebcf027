"""Primitives shared by prover and verifier; numpy and the standard library only."""
