"""The language circuits are written in: digit tensors, views of them, and integer identities over axes.

A *tensor* is a family of range-checked digits; its value is ``sum_d digit_d * 2^shift_d``. A *view* reads a tensor
through public index maps, one *source* per tensor axis. A *form* is a linear combination of view digits. An
*identity* states, for every index of its output axes, that

    sum over summed axes of sum_k A_k * B_k  +  linear  +  constant  =  0        (over the integers)

where A_k, B_k and `linear` are forms. `Constraint.add` proves from the digit ranges that the left side is smaller
than p in magnitude, so that the identity modulo p, which is what is proved, is the identity over the integers.

tensors      digits with exact ranges, and the tensors they make
sources      how an axis of a tensor is read
forms        views of tensors, and linear combinations of their digits
constraints  identities, and the circuit they make
wide         identities of integers larger than p, limb by limb
layout       where every digit lies in the committed matrix
"""
