"""Executing a declared circuit: the probe in exact integers, and the witness it leaves."""
