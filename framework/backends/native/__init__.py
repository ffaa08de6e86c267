"""Machine code from a small subset of Python, the kernel language.

A kernel is a text of functions. The text also runs as plain Python on flat NumPy arrays.

- A function whose arguments are annotated is compiled by itself. Its arrays must not overlap, and its sums may be taken
  in any order. Annotations: ``int`` (64 bits), ``float`` (float64), ``real`` (the kernel's dtype), the flat arrays
  ``ints``, ``floats`` and ``reals``, and ``arrays``, in which ``x: reals = arrays[3]`` names one.
- A function without annotations is a formula, expanded where it is called. The order of its operations is kept, the sum
  of a product and a number is rounded once where the processor can do it, and ``return`` is the last statement; it may
  return several values.
- Statements: assignments, ``for i in range(...)``, ``if``, ``continue``, ``return``, calls.
- A step of ``range`` that is not a literal is positive.
- ``x[i]`` is an element, and ``x[i:]`` is the array from there on.
- ``a if c else b``, ``and`` and ``or`` compute both sides.
- A number literal takes the type of the other operand. A name that is assigned more than once has the type of its
  first value: ``total = 0.0`` is a float, ``total = real(0.0)`` a real.
- ``gemm(m, n, k, alpha, a, row_a, step_a, b, step_b, col_b, beta, c, row_c)``: C <- alpha A B + beta C for A (m, k),
  B (k, n) and C (m, n); with beta = 0, C is not read. The columns of A are ``step_a`` apart and those of B ``col_b``,
  the rows of A ``row_a``, of B ``step_b``, of C ``row_c``.
- ``tiled(...)`` is ``gemm`` without BLAS, so that the bits of a row of C do not depend on m.
- ``tile``, ``table_tile``, ``hop_tile``, ``dot_tile`` and ``lanes_tile`` are products of a few rows and columns, whose
  numbers come first, as literals; see ``native.tiles`` and ``native.lanes`` for what they compute and take.
- ``largest(x, y)`` and ``smallest(x, y)`` are ``maximum`` and ``minimum`` with 0 above -0, which LLVM makes vectors of
  in sums too.
- ``memory(count)`` is an array of a function's own, of a literal number of reals; ``clock()`` counts cycles.
- ``copy(to, at, count)`` copies the first numbers of ``at`` into ``to``. ``prefetch(x, place)`` brings the cache line
  of ``x[place]`` near; the place may lie outside the array.
- ``bits(value)`` gives the bits of a number as an integer of the same width, ``number(value)`` the inverse.
- ``inf`` and ``nan`` are names. The other functions are NumPy's elementwise ones.
"""

from framework.backends.native.kernels import available, compile_kernel
from framework.backends.native.machine import Function, addresses, llvm, products

__all__ = ["Function", "addresses", "available", "compile_kernel", "llvm", "products"]
