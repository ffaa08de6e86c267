"""Functions that Numba lacks: SciPy's matrix product, and prefetching and copying a row.

SciPy's BLAS is called by its address. Unlike np.dot it takes transposed matrices without a copy, scales the product and
adds it to an array, so that a plain step of descent can be part of the product.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import get_cython_function_address, intrinsic

_CACHE_LINE = 64


def gemm_address(dtype: str) -> int:
    """Return where SciPy's BLAS has dgemm ("float64") or sgemm ("float32")."""
    address: int = get_cython_function_address("scipy.linalg.cython_blas", "dgemm" if dtype == "float64" else "sgemm")
    return address


@intrinsic
def gemm(
    typing: Any, address: Any, flip: Any, m: Any, n: Any, k: Any, alpha: Any, a: Any, b: Any, beta: Any, c: Any
) -> Any:
    """C <- alpha A B + beta C for row-major arrays: A (m, k), B (k, n), C (m, n).

    ``flip`` says which one is stored the other way round: 0 neither, 1 A is stored as (k, m), 2 B is stored as (n, k).
    Row-major matrices are column-major ones transposed, so BLAS is asked for C^T = B^T A^T.
    """
    real = a.dtype
    signature = types.void(types.int64, types.int64, types.int64, types.int64, types.int64, real, a, b, real, c)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, flip, m, n, k, alpha, a, b, beta, c = arguments
        word, byte = ir.IntType(32), ir.IntType(8)
        number = context.get_value_type(real)

        def pointer(value: Any) -> Any:
            return cgutils.alloca_once_value(builder, value)  # type: ignore[no-untyped-call]

        def size(value: Any) -> Any:
            return builder.trunc(value, word)

        def data(value: Any, place: int) -> Any:
            return context.make_array(signature.args[place])(context, builder, value).data

        flips_a = builder.icmp_signed("==", flip, flip.type(1))
        flips_b = builder.icmp_signed("==", flip, flip.type(2))
        letter_a = builder.select(flips_a, byte(ord("T")), byte(ord("N")))
        letter_b = builder.select(flips_b, byte(ord("T")), byte(ord("N")))
        row_a = builder.select(flips_a, m, k)
        row_b = builder.select(flips_b, k, n)
        parts = [
            pointer(letter_b),
            pointer(letter_a),
            *(pointer(size(value)) for value in (n, m, k)),
            pointer(alpha),
            data(b, 7),
            pointer(size(row_b)),
            data(a, 6),
            pointer(size(row_a)),
            pointer(beta),
            data(c, 9),
            pointer(size(n)),
        ]
        kinds = [ir.PointerType(kind) for kind in (byte, byte, word, word, word, number, number, word, number, word)]
        kinds += [ir.PointerType(kind) for kind in (number, number, word)]
        function = ir.FunctionType(ir.VoidType(), kinds)
        builder.call(builder.inttoptr(address, ir.PointerType(function)), parts)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def copy_row(_typing: Any, x: Any, r: Any, out: Any, i: Any) -> Any:
    """out[i, :] <- x[r, :] for C-contiguous arrays of one width; rows are too short for a loop to be as fast."""
    signature = types.void(x, types.int64, out, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, r, out, i = arguments
        source = context.make_array(signature.args[0])(context, builder, x)
        target = context.make_array(signature.args[2])(context, builder, out)
        width = cgutils.unpack_tuple(builder, source.shape, 2)[1]  # type: ignore[no-untyped-call]
        places = [builder.gep(array.data, [builder.mul(row, width)]) for array, row in ((target, i), (source, r))]
        cgutils.raw_memcpy(builder, places[0], places[1], width, source.itemsize)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def fetch_row(_typing: Any, x: Any, r: Any) -> Any:
    """Prefetch x[r, :] of a C-contiguous array, which is read soon: rows in random order are far apart in memory."""
    signature = types.void(x, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, r = arguments
        array = context.make_array(signature.args[0])(context, builder, x)
        width = cgutils.unpack_tuple(builder, array.shape, 2)[1]  # type: ignore[no-untyped-call]
        word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        row = builder.bitcast(builder.gep(array.data, [builder.mul(r, width)]), pointer)
        kind = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")  # type: ignore[no-untyped-call]
        size = builder.mul(width, array.itemsize)
        start, step = size.type(0), size.type(_CACHE_LINE)
        with cgutils.for_range_slice(builder, start, size, step, inc=True) as (place, _):
            builder.call(prefetch, [builder.gep(row, [place]), word(0), word(3), word(1)])  # data, to read, to keep
        return context.get_dummy_value()

    return signature, generate
