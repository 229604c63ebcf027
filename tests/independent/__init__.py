"""A second verifier, in plain big integers, by somebody who had read docs/spec and its vectors and no line of the code.

It shares no code with the rest and is not to be made to: where it and the verifier differ, one of them or the text is
wrong. `python -m tests.independent docs/spec/vectors/NAME` verifies a stored proof; `mutate` and `deep` are its own
tests. Since it was written it has been changed where the specification was, from the text again: blocks of an axis that
fit exactly, the opening of several levels, congruences with the second part of the matrix.
"""
