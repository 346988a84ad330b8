"""Operations that serve several trials at once, each with a plain PyTorch twin.

One folder per operation: `naive.py` is the twin and says what is meant, `fused.py` has the Triton kernels,
`cases.py` the shapes, tolerances and an independent reference for tests and benchmarks, and `__init__.py`
takes the one or the other by device. Nothing needs a kernel to be right.

Rows of all trials stand in one matrix, trial after trial: `bounds` (G + 1 ascending row numbers, from 0 to the
number of rows) says that trial g owns rows bounds[g] to bounds[g + 1]. A trial may own none.

After one call with the same bounds and weights an operation can be recorded in a CUDA graph; weights must then stay where they stand.
"""
