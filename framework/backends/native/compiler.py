"""From the kernel language to LLVM's, as text.

Names that a loop or a condition assigns live in memory, one slot each; LLVM turns the slots into registers. All other
names stand for a value.
"""

from __future__ import annotations

import ast
import operator
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

from framework.backends.native.lanes import LanesTile
from framework.backends.native.library import library
from framework.backends.native.tiles import Block, DotTile, HopTile, TableTile, Tile, declarations

FAST, ORDERED = "contract reassoc nsz", ""
"""The flags of arithmetic in a function, and in a formula. Never nnan or ninf: divergence must be seen."""

_RANKS = ("i1", "i32", "i64", "float", "double")
_ARITHMETIC: dict[type, tuple[Callable[[Any, Any], Any], str, str]] = {
    ast.Add: (operator.add, "add", "fadd"),
    ast.Sub: (operator.sub, "sub", "fsub"),
    ast.Mult: (operator.mul, "mul", "fmul"),
    ast.Div: (operator.truediv, "", "fdiv"),
    ast.FloorDiv: (operator.floordiv, "", ""),
    ast.Mod: (operator.mod, "", ""),
    ast.Pow: (operator.pow, "", ""),
    ast.BitAnd: (operator.and_, "and", ""),
    ast.BitOr: (operator.or_, "or", ""),
    ast.BitXor: (operator.xor, "xor", ""),
    ast.LShift: (operator.lshift, "shl", ""),
    ast.RShift: (operator.rshift, "ashr", ""),
}
"""For each operator: its result for two literals, and its instructions for integers and for floats."""

_BY_FUNCTION = {ast.FloorDiv: "floor_divide", ast.Mod: "mod", ast.Pow: "power"}
"""The functions of the library that operators of floats are."""

_COMPARISONS = {
    ast.Lt: ("slt", "olt"),
    ast.LtE: ("sle", "ole"),
    ast.Gt: ("sgt", "ogt"),
    ast.GtE: ("sge", "oge"),
    ast.Eq: ("eq", "oeq"),
    ast.NotEq: ("ne", "une"),
}

_INTRINSICS = {
    **{name: name for name in ("sqrt", "floor", "ceil", "trunc", "copysign")},
    "rint": "rint",
    "abs": "fabs",
    "power": "pow",
}
"""Functions of floats that LLVM knows."""

_LIBRARY = {
    **{name: name for name in ("cbrt", "cos", "cosh", "exp2", "fmod", "hypot", "log10", "log2", "sin", "sinh", "tan")},
    **{f"arc{name}": f"a{name}" for name in ("cos", "cosh", "sin", "sinh", "tan", "tan2", "tanh")},
    **{name: name for name in ("erf", "erfc")},
}
"""Functions of floats by their names in the mathematical library of C; those of float32 end in f."""


def symbols() -> Iterator[str]:
    """Give the functions of the mathematical library that a kernel may call, or LLVM in place of them."""
    for name in (*_LIBRARY.values(), "pow", "floor", "ceil", "trunc", "rint", "ldexp", "exp10", "sincos"):
        yield from (name, f"{name}f")


class KernelError(Exception):
    """A text is not in the kernel language; the message names the function and the line."""


@dataclass(frozen=True)
class Value:
    """A value in LLVM's text.

    Attributes:
        type: LLVM's type; that of the elements after ``*`` for an array; "literal" until another operand tells.
        name: LLVM's name, or a literal as a number.
        slot: Whether the name is that of the memory where the value is.
    """

    type: str
    name: Any
    slot: bool = False


@dataclass(frozen=True)
class Signature:
    """The types of a function's arguments, and of its result.

    Attributes:
        arguments: LLVM's types, with that of the elements after ``*`` for arrays.
        result: LLVM's type; "void" for none.
    """

    arguments: tuple[str, ...]
    result: str

    def __str__(self) -> str:
        return " ".join([*self.arguments, self.result])


class Program:
    r"""The functions of a kernel, compiled as they are called.

    Example:
        >>> text = "def half(x: reals):\n    x[0] *= 0.5"
        >>> Program(text, "float64").llvm_text("half").splitlines()[0]
        'define void @half(ptr noalias %x) noinline nounwind {'
    """

    def __init__(self, text: str, dtype: str, apart: str = "", symbols: Mapping[str, str] | None = None) -> None:
        """Read the text.

        Args:
            text: The functions.
            dtype: That of ``real``.
            apart: Functions with object files of their own, which are linked.
            symbols: The names of functions in object files, where these are not those in the text.

        Raises:
            SyntaxError: It is not Python.
        """
        self.real = {"float64": "double", "float32": "float"}[dtype]
        self.types = {"int": "i64", "float": "double", "real": self.real, "ints": "*i64", "floats": "*double"}
        self.types |= {"reals": f"*{self.real}", "arrays": "*i64"}
        self._functions = _functions(text)
        self._apart = _functions(apart)
        self._symbols = symbols or {}
        self._made: dict[str, Signature] = {}
        self._texts: list[str] = []
        self._declared: dict[str, None] = {}
        self.outside: set[str] = set()
        """The functions of the mathematical library that a kernel calls."""
        self.entries: set[str] = set()
        self._loops = 0
        self.shared: set[str] = set()
        """Which of ``gemm`` and ``tiled`` a kernel calls, which are in object files of their own."""

    def llvm_text(self, *entries: str) -> str:
        """Return LLVM's text of some functions and of all that they call.

        Raises:
            KernelError: Some line is not in the language.
        """
        self.entries = {*entries}
        for name in entries:
            self.signature(name)
        marks = [f"!{i} = distinct !{{!{i}, !0}}" for i in range(1, self._loops + 1)]
        return "\n".join([*self._declared, *self._texts, '!0 = !{!"llvm.loop.interleave.count", i32 4}', *marks])

    def symbol(self, name: str) -> str:
        """Return the name of a function in an object file."""
        return self._symbols.get(name, name)

    def defines(self, name: str) -> bool:
        """Return whether the text has a function of this name."""
        return name in self._functions

    def definition(self, name: str, kind: str) -> ast.FunctionDef | None:
        """Return a function of the text, or of the library for ``kind``, LLVM's type of floats."""
        return self._functions.get(name) or self._apart.get(name) or library(kind).get(name)

    def signature(self, name: str) -> Signature:
        """Return the signature of a function with annotations, which is compiled when it is first asked for."""
        if name not in self._made:
            node = self.definition(name, self.real)
            if node is None:
                raise KernelError(f"a kernel without a function {name}")
            arguments = tuple(self.type(arg.annotation, name) for arg in node.args.args)
            self._made[name] = Signature(arguments, self.type(node.returns, name) if node.returns else "void")
            if name in self._functions or name not in self._apart:
                self._texts.append(_Function(self, node, self._made[name]).text())
            else:
                kinds = ("ptr" if kind[0] == "*" else kind for kind in arguments)
                self.declare(self.symbol(name), self._made[name].result, *kinds)
        return self._made[name]

    def type(self, annotation: ast.expr | None, name: str) -> str:
        """Return LLVM's type for an annotation in a function."""
        text = "nothing" if annotation is None else ast.unparse(annotation)
        if text not in self.types:
            raise KernelError(f"function {name} of the kernel: expected one of {', '.join(self.types)}; got {text}")
        return self.types[text]

    def tile(self, lanes: int, rows: int, vectors: int, masked: int) -> str:
        """Return the name of a tile."""
        name = f"tile_{rows}_{vectors}_of_{lanes}{'_masked' if masked else ''}"
        return self._write_tile(Tile(name, self.real, lanes, rows, vectors, masked=bool(masked)))

    def table_tile(self, lanes: int, rows: int, vectors: int, masked: int) -> str:
        """Return the name of a tile with tables of steps."""
        name = f"table_{rows}_{vectors}_of_{lanes}{'_masked' if masked else ''}"
        return self._write_tile(TableTile(name, self.real, lanes, rows, vectors, masked=bool(masked)))

    def hop_tile(self, lanes: int, rows: int, vectors: int, masked: int) -> str:
        """Return the name of a tile whose vectors are apart."""
        name = f"hop_{rows}_{vectors}_of_{lanes}{'_masked' if masked else ''}"
        return self._write_tile(HopTile(name, self.real, lanes, rows, vectors, masked=bool(masked)))

    def dot_tile(self, lanes: int, rows: int, columns: int, length: int) -> str:
        """Return the name of a tile of sums along vectors."""
        name = f"dot_{rows}_{columns}_{length}_of_{lanes}"
        return self._write_tile(DotTile(name, self.real, lanes, rows, columns, length))

    def lanes_tile(self, lanes: int, rows: int, columns: int) -> str:
        """Return the name of a tile over lanes."""
        name = f"lanes_{rows}_{columns}_of_{lanes}"
        return self._write_tile(LanesTile(name, self.real, lanes, rows, columns))

    def _write_tile(self, tile: Block) -> str:
        """Write a tile when it is first asked for, and return its name."""
        if tile.name not in self._made:
            self._made[tile.name] = Signature((), "void")
            self._texts.append(tile.text())
            self._declared |= dict.fromkeys(declarations(self.real, tile.lanes))
        return tile.name

    def add_loop_mark(self) -> str:
        """Return the mark of a loop that adds up several sums at a time, so that none waits for the one before."""
        self._loops += 1
        return f", !llvm.loop !{self._loops}"

    def declare(self, name: str, result: str, *arguments: str) -> None:
        """Declare an outside function."""
        self._declared[f"declare {result} @{name}({', '.join(arguments)})"] = None


def _literal(value: float, kind: str) -> str:
    """Return a number as LLVM writes it."""
    if kind in ("i1", "i32", "i64"):
        return str(int(value))
    if kind == "float":
        (value,) = struct.unpack("f", struct.pack("f", value))
    return f"0x{struct.pack('>d', value).hex().upper()}"


class _Function(ast.NodeVisitor):
    """Writes a function, statement by statement. The methods of expressions return a Value, or a tuple of them."""

    def __init__(self, program: Program, node: ast.FunctionDef, signature: Signature) -> None:
        self.program, self.node, self.signature = program, node, signature
        self.slots: list[str] = []
        self.lines: list[str] = []
        self.count = 0
        self.open = True
        self.steps: list[str] = []
        self.flags = FAST
        self.products: dict[str, tuple[Value, Value]] = {}
        self.where = (node.name, node.lineno)
        self.returned: Any = None
        self.names: dict[str, Value] = {}
        self.changing: set[str] = set()

    def text(self) -> str:
        """Return the function as LLVM's text."""
        arguments, names = [], {}
        for argument, kind in zip(self.node.args.args, self.signature.arguments, strict=True):
            arguments.append(f"{'ptr noalias' if kind[0] == '*' else kind} %{argument.arg}")
            names[argument.arg] = Value(kind, f"%{argument.arg}")
        self._expand(self.node, names)
        self._line("ret void" if self.signature.result == "void" else "unreachable", ends=True)
        inner = "" if self.node.name in self.program.entries else "internal "
        head = f"define {inner}{self.signature.result} @{self.program.symbol(self.node.name)}({', '.join(arguments)})"
        return "\n".join([f"{head} noinline nounwind {{", *self.slots, *self.lines, "}", ""])

    # lines of LLVM

    def _line(self, text: str, *, ends: bool = False) -> None:
        """Add a line, unless nothing reaches it."""
        if self.open:
            self.lines.append(f"  {text}")
        self.open = self.open and not ends

    def _add_line(self, kind: str, text: str) -> Value:
        """Add a line that computes a value."""
        self.count += 1
        self._line(f"%.{self.count} = {text}")
        return Value(kind, f"%.{self.count}")

    def _labels(self, *names: str) -> list[str]:
        self.count += 1
        return [f"{name}.{self.count}" for name in names]

    def _begin(self, label: str) -> None:
        """Begin a block, which the one before goes to unless it ended elsewhere."""
        self._line(f"br label %{label}", ends=True)
        self.lines.append(f"{label}:")
        self.open = True

    def _call(self, kind: str, name: str, arguments: Iterable[tuple[str, Any]]) -> Value:
        text = ", ".join(f"{kind_of_argument} {value}" for kind_of_argument, value in arguments)
        if kind == "void":
            self._line(f"call void @{name}({text})")
            return Value("void", "")
        return self._add_line(kind, f"call {kind} @{name}({text})")

    def _outside(self, kind: str, name: str, arguments: list[tuple[str, Any]]) -> Value:
        self.program.declare(name, kind, *(kind_of_argument for kind_of_argument, _ in arguments))
        return self._call(kind, name, arguments)

    def _error(self, message: str) -> KernelError:
        name, line = self.where
        return KernelError(f"function {name}, line {line} of the kernel: {message}")

    # types

    def _convert(self, value: Value, kind: str) -> Value:
        """Return a number as another type."""
        if value.type == kind:
            return value
        if value.type == "literal":
            return Value(kind, _literal(value.name, kind))
        if value.type not in _RANKS or kind not in _RANKS:
            raise self._error(f"expected {kind}, got {value.type}")
        wider = _RANKS.index(kind) > _RANKS.index(value.type)
        match value.type[0] in "fd", kind[0] in "fd":
            case True, True:
                how = "fpext" if wider else "fptrunc"
            case False, True:
                how = "uitofp" if value.type == "i1" else "sitofp"
            case True, False:
                how = "fptosi"
            case _:
                how = ("zext" if value.type == "i1" else "sext") if wider else "trunc"
        if kind == "i1":
            return self._compare(ast.NotEq(), value, Value("literal", 0))
        return self._add_line(kind, f"{how} {value.type} {value.name} to {kind}")

    def _promote(self, *values: Value, floats: bool = False) -> list[Value]:
        """Convert numbers to the type of the widest; literals adapt to it. ``floats`` makes integers floats."""
        kinds = [value.type for value in values if value.type != "literal"]
        if any(kind not in _RANKS for kind in kinds):
            raise self._error(f"expected numbers, got {', '.join(kinds)}")
        kind = max(kinds, key=_RANKS.index, default="")
        if kind[:1] not in ("f", "d") and (floats or any(isinstance(value.name, float) for value in values)):
            kind = "double" if kind else self.program.real
        return [self._convert(value, kind or "i64") for value in values]

    # statements

    def _expand(self, node: ast.FunctionDef, names: dict[str, Value]) -> Any:
        """Write the body of a function with its names, and return what it returns."""
        nested = [statement for statement in node.body if isinstance(statement, ast.For | ast.If)]
        inside = [node_inside for outer in nested for node_inside in ast.walk(outer)]
        if self.flags == ORDERED and any(isinstance(node_inside, ast.Return) for node_inside in inside):
            raise self._error("a formula returns in its last statement alone")
        changing = {
            node_inside.id
            for node_inside in inside
            if isinstance(node_inside, ast.Name) and isinstance(node_inside.ctx, ast.Store)
        }
        kept, self.names, self.changing = (self.names, self.changing), {}, changing
        for name, value in names.items():
            self._assign_name(name, value)
        for statement in node.body:
            self.visit(statement)
        self.names, self.changing = kept
        returned, self.returned = self.returned, None
        return returned

    @contextmanager
    def _formula(self, name: str) -> Iterator[None]:
        kept = self.flags, self.where
        self.flags, self.where = ORDERED, (name, 0)
        yield
        self.flags, self.where = kept

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.stmt | ast.expr):
            self.where = (self.where[0], node.lineno)
        return super().visit(node)

    def generic_visit(self, node: ast.AST) -> NoReturn:
        raise self._error(f"{type(node).__name__} is not in the kernel language")

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._assign(node.targets[0], self.visit(node.value))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        kind = self.program.type(node.annotation, self.where[0])
        value: Value = self.visit(node.value or node.annotation)
        array = kind[0] == "*"
        value = self._add_line(kind, f"inttoptr i64 {value.name} to ptr") if array else self._convert(value, kind)
        self._assign(node.target, value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._assign(node.target, self._binary(node.op, self._load_name(node.target.id), self.visit(node.value)))
        elif isinstance(node.target, ast.Subscript):
            address = self._place(node.target)
            before = self._add_line(address.type, f"load {address.type}, ptr {address.name}")
            self._store(self._binary(node.op, before, self.visit(node.value)), address)

    def _assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Tuple):
            if not isinstance(value, tuple) or len(value) != len(target.elts):
                raise self._error("the numbers of names and of values differ")
            for name, component in zip(target.elts, value, strict=True):
                self._assign(name, component)
        elif not isinstance(value, Value) or value.type == "void":
            raise self._error("expected one value")
        elif isinstance(target, ast.Name):
            self._assign_name(target.id, value)
        elif isinstance(target, ast.Subscript):
            self._store(value, self._place(target))
        else:
            self.generic_visit(target)

    def _assign_name(self, name: str, value: Value) -> None:
        if name not in self.changing:
            self.names[name] = value
            return
        if name not in self.names:
            (value,) = self._promote(value) if value.type in ("literal", *_RANKS) else (value,)
            self.count += 1
            self.names[name] = Value(value.type, f"%{name}.{self.count}", slot=True)
            self.slots.append(f"  {self.names[name].name} = alloca {_type_in_memory(value.type)}")
        self._store(value, self.names[name])

    def _store(self, value: Value, address: Value) -> None:
        if address.type[0] == "i" and (value.type[0] in "fd" or isinstance(value.name, float)):
            raise self._error("expected an integer, as the name or the array holds; got a float; write int(...)")
        value = self._convert(value, address.type)
        self._line(f"store {_type_in_memory(address.type)} {value.name}, ptr {address.name}")

    def visit_For(self, node: ast.For) -> None:
        match node:
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=bounds), orelse=[]):
                values = [self._convert(self.visit(bound), "i64") for bound in bounds]
            case _:
                raise self._error("expected: for name in range(...)")
        zero, one = Value("i64", "0"), Value("i64", "1")
        start, stop, by = {1: (zero, *values, one), 2: (*values, one)}.get(len(values), tuple(values))
        head, body, step, end = self._labels("head", "body", "step", "end")
        counter = f"%counter.{self.count}"
        self.slots.append(f"  {counter} = alloca i64")
        self._store(start, Value("i64", counter))
        self._begin(head)
        i = self._add_line("i64", f"load i64, ptr {counter}")
        test = self._add_line("i1", f"icmp {'sgt' if by.name[0] == '-' else 'slt'} i64 {i.name}, {stop.name}")
        self._line(f"br i1 {test.name}, label %{body}, label %{end}", ends=True)
        self._begin(body)
        self._assign_name(name, i)
        self.steps.append(step)
        for statement in node.body:
            self.visit(statement)
        self.steps.pop()
        self._begin(step)
        self._store(self._add_line("i64", f"add nsw i64 {i.name}, {by.name}"), Value("i64", counter))
        sums = any(
            isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name) for statement in node.body
        )
        self._line(f"br label %{head}{self.program.add_loop_mark() if sums else ''}", ends=True)
        self._begin(end)

    def visit_If(self, node: ast.If) -> None:
        test = self._convert(self.visit(node.test), "i1")
        then, otherwise, end = self._labels("then", "else", "end")
        self._line(f"br i1 {test.name}, label %{then}, label %{otherwise}", ends=True)
        for label, statements in ((then, node.body), (otherwise, node.orelse)):
            self._begin(label)
            for statement in statements:
                self.visit(statement)
            self._line(f"br label %{end}", ends=True)
        self._begin(end)

    def visit_Continue(self, _node: ast.Continue) -> None:
        self._line(f"br label %{self.steps[-1]}", ends=True)

    def visit_Return(self, node: ast.Return) -> None:
        value = self.visit(node.value) if node.value else None
        if self.flags == ORDERED:  # a formula, whose body is written into its caller
            self.returned = value
        elif value is None:
            self._line("ret void", ends=True)
        elif self.signature.result == "void":
            raise self._error("a function that returns a number says which: -> int, float or real")
        else:
            value = self._convert(value, self.signature.result)
            self._line(f"ret {value.type} {value.name}", ends=True)

    def visit_Pass(self, node: ast.Pass) -> None:
        pass

    # expressions

    def visit_Constant(self, node: ast.Constant) -> Value:
        if isinstance(node.value, bool):
            return Value("i1", str(int(node.value)))
        if not isinstance(node.value, int | float):
            raise self._error(f"expected a number, got {node.value!r}")
        return Value("literal", node.value)

    def visit_Name(self, node: ast.Name) -> Value:
        return self._load_name(node.id)

    def _load_name(self, name: str) -> Value:
        if name in ("inf", "nan"):
            return Value("literal", float(name))
        value = self.names.get(name)
        if value is None:
            raise self._error(f"{name} has no value yet")
        return (
            self._add_line(value.type, f"load {_type_in_memory(value.type)}, ptr {value.name}") if value.slot else value
        )

    def visit_Tuple(self, node: ast.Tuple) -> tuple[Value, ...]:
        return tuple(map(self.visit, node.elts))

    def visit_Subscript(self, node: ast.Subscript) -> Value:
        address = self._place(node)
        if isinstance(node.slice, ast.Slice):
            return Value(f"*{address.type}", address.name)
        return self._add_line(address.type, f"load {address.type}, ptr {address.name}")

    def _place(self, node: ast.Subscript) -> Value:
        """Return where an element is."""
        array, index = self.visit(node.value), node.slice
        if array.type[0] != "*":
            raise self._error(f"{ast.unparse(node.value)} is not an array")
        if isinstance(index, ast.Slice) and not (index.lower and not index.upper and not index.step):
            raise self._error("expected: array[start:]")
        at = self._convert(self.visit(index.lower if isinstance(index, ast.Slice) and index.lower else index), "i64")
        kind = array.type[1:]
        return Value(
            kind, self._add_line("ptr", f"getelementptr inbounds {kind}, ptr {array.name}, i64 {at.name}").name
        )

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Value:
        value = self.visit(node.operand)
        if isinstance(node.op, ast.Not):
            return self._add_line("i1", f"xor i1 {self._convert(value, 'i1').name}, 1")
        if not isinstance(node.op, ast.USub):
            self.generic_visit(node.op)
        if value.type == "literal":
            return Value("literal", -value.name)
        if value.type[0] in "fd":
            return self._negative(value)
        return self._binary(ast.Sub(), Value("literal", 0), value)

    def visit_BinOp(self, node: ast.BinOp) -> Value:
        return self._binary(node.op, self.visit(node.left), self.visit(node.right))

    def _binary(self, op: ast.operator, left: Value, right: Value) -> Value:
        folded, of_ints, of_floats = _ARITHMETIC[type(op)]
        if left.type == right.type == "literal":
            return Value("literal", folded(left.name, right.name))
        left, right = self._promote(left, right, floats=isinstance(op, ast.Div))
        kind = left.type
        if kind[0] in "fd" and of_floats:
            if self.flags == ORDERED:
                return self._in_order(op, of_floats, left, right)
            return self._add_line(kind, f"{of_floats} {self.flags} {kind} {left.name}, {right.name}")
        if kind[0] in "fd" and type(op) in _BY_FUNCTION:
            result: Value = self._function(_BY_FUNCTION[type(op)], [left, right])
            return result
        if kind[0] == "i" and of_ints:
            return self._add_line(kind, f"{of_ints} {kind} {left.name}, {right.name}")
        if kind[0] == "i" and isinstance(op, ast.FloorDiv | ast.Mod):
            return self._divide_integers(op, left, right)
        raise self._error(f"no {type(op).__name__} of {kind}")

    def _in_order(self, op: ast.operator, operation: str, left: Value, right: Value) -> Value:
        """Return arithmetic of a formula, where a product and the sum or difference after it are one operation.

        LLVM would fuse some of them in a loop of vectors and others in the rest of the loop, and so round differently.
        """
        kind, subtracts = left.type, isinstance(op, ast.Sub)
        if isinstance(op, ast.Add | ast.Sub) and not self.products.keys().isdisjoint((left.name, right.name)):
            if left.name in self.products:
                (a, b), c = self.products[left.name], self._negative(right) if subtracts else right
            else:
                (a, b), c = self.products[right.name], left
                a = self._negative(a) if subtracts else a
            name = f"llvm.fmuladd.{'f32' if kind == 'float' else 'f64'}"
            return self._outside(kind, name, [(kind, factor.name) for factor in (a, b, c)])
        multiplies = isinstance(op, ast.Mult)  # a sum around the formula may fuse with its product
        result = self._add_line(kind, f"{operation} {'contract ' * multiplies}{kind} {left.name}, {right.name}")
        if multiplies:
            self.products[result.name] = left, right
        return result

    def _negative(self, value: Value) -> Value:
        return self._add_line(value.type, f"fneg {self.flags} {value.type} {value.name}")

    def _divide_integers(self, op: ast.operator, a: Value, b: Value) -> Value:
        """Return the quotient or the remainder of integers, rounded down as in Python."""
        kind = a.type
        rest = self._add_line(kind, f"srem {kind} {a.name}, {b.name}")
        signs = self._binary(ast.BitXor(), rest, b)
        zero = Value("literal", 0)
        off = self._compare(ast.NotEq(), rest, zero), self._compare(ast.Lt(), signs, zero)
        low = self._binary(ast.BitAnd(), *off)
        if isinstance(op, ast.Mod):
            return self._binary(ast.Add(), rest, self._select(low, b, zero))
        quotient = self._add_line(kind, f"sdiv {kind} {a.name}, {b.name}")
        return self._binary(ast.Sub(), quotient, self._convert(low, kind))

    def visit_Compare(self, node: ast.Compare) -> Value:
        values = [self.visit(operand) for operand in (node.left, *node.comparators)]
        comparisons = [self._compare(op, *pair) for op, pair in zip(node.ops, pairwise(values), strict=True)]
        return self._all(ast.BitAnd(), comparisons)

    def _compare(self, op: ast.cmpop, left: Value, right: Value) -> Value:
        left, right = self._promote(left, right)
        of_ints, of_floats = _COMPARISONS[type(op)]
        compare = f"fcmp {of_floats}" if left.type[0] in "fd" else f"icmp {of_ints}"
        return self._add_line("i1", f"{compare} {left.type} {left.name}, {right.name}")

    def visit_BoolOp(self, node: ast.BoolOp) -> Value:
        op = ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr()
        return self._all(op, [self._convert(self.visit(operand), "i1") for operand in node.values])

    def _all(self, op: ast.operator, values: list[Value]) -> Value:
        first, *rest = values
        for value in rest:
            first = self._binary(op, first, value)
        return first

    def visit_IfExp(self, node: ast.IfExp) -> Value:
        return self._select(*map(self.visit, (node.test, node.body, node.orelse)))

    def _select(self, test: Value, yes: Value, no: Value) -> Value:
        test = self._convert(test, "i1")
        if yes.type[0] != "*" or yes.type != no.type:
            yes, no = self._promote(yes, no)
        kind = _type_in_memory(yes.type)
        return self._add_line(yes.type, f"select i1 {test.name}, {kind} {yes.name}, {kind} {no.name}")

    # calls

    def visit_Call(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise self._error(f"no call {ast.unparse(node)}")
        arguments, where = [self.visit(arg) for arg in node.args], self.where
        own = self.program.defines(node.func.id)
        built_in = None if own else getattr(self, f"_{node.func.id}_of", None)
        try:
            return built_in(*arguments) if built_in else self._function(node.func.id, arguments)
        except (KeyError, TypeError, ValueError):
            self.where = where
            raise self._error(f"wrong arguments: {ast.unparse(node)}") from None

    def _function(self, name: str, arguments: list[Value]) -> Any:
        """Return a call of a function, or an expanded formula."""
        known = self.program.definition(name, self._kind(arguments))
        if known is None:
            return self._elementwise(name, arguments)
        names = [arg.arg for arg in known.args.args]
        if any(arg.annotation for arg in known.args.args):  # it is compiled by itself
            kinds = self.program.signature(name)
            converted = [self._argument(*pair) for pair in zip(arguments, kinds.arguments, strict=True)]
            return self._call(kinds.result, self.program.symbol(name), converted)
        with self._formula(name):
            return self._expand(known, dict(zip(names, arguments, strict=True)))

    def _kind(self, arguments: list[Value]) -> str:
        """Return in which type a function of the library computes."""
        kinds = {argument.type for argument in arguments}
        known = max(kinds & {*_RANKS}, key=_RANKS.index, default=self.program.real)
        return known if known[0] in "fd" else "double"

    def _argument(self, value: Value, kind: str) -> tuple[str, Any]:
        if kind[0] != "*":
            return kind, self._convert(value, kind).name
        if value.type != kind:
            raise self._error(f"expected {kind}, got {value.type}")
        return "ptr", value.name

    def _elementwise(self, name: str, arguments: list[Value]) -> Value:
        """Return a call of LLVM's function, or of the mathematical library's."""
        arguments = self._promote(*arguments, floats=True)
        kind = arguments[0].type
        if name in _INTRINSICS:
            symbol = f"llvm.{_INTRINSICS[name]}.{'f32' if kind == 'float' else 'f64'}"
        elif name in _LIBRARY:
            symbol = _LIBRARY[name] + ("f" if kind == "float" else "")
            self.program.outside.add(symbol)
        else:
            raise self._error(f"no function {name}")
        return self._outside(kind, symbol, [(kind, argument.name) for argument in arguments])

    def _real_of(self, value: Value) -> Value:
        return self._convert(value, self.program.real)

    def _float_of(self, value: Value) -> Value:
        return self._convert(value, "double")

    def _int_of(self, value: Value) -> Value:
        return self._convert(value, "i64")

    def _bits_of(self, value: Value) -> Value:
        return self._cast(value, {"float": "i32", "double": "i64"})

    def _number_of(self, value: Value) -> Value:
        return self._cast(value, {"i32": "float", "i64": "double"})

    def _cast(self, value: Value, kinds: dict[str, str]) -> Value:
        kind = kinds[value.type]
        return self._add_line(kind, f"bitcast {value.type} {value.name} to {kind}")

    def _min_of(self, *values: Value) -> Value:
        return self._extreme("smin", values)

    def _max_of(self, *values: Value) -> Value:
        return self._extreme("smax", values)

    def _extreme(self, which: str, values: tuple[Value, ...]) -> Value:
        first, *rest = (self._convert(value, "i64") for value in values)
        for value in rest:
            first = self._outside("i64", f"llvm.{which}.i64", [("i64", first.name), ("i64", value.name)])
        return first

    def _largest_of(self, a: Value, b: Value) -> Value:
        return self._extreme_float("maximum", a, b)

    def _smallest_of(self, a: Value, b: Value) -> Value:
        return self._extreme_float("minimum", a, b)

    def _extreme_float(self, which: str, a: Value, b: Value) -> Value:
        a, b = self._promote(a, b, floats=True)
        name = f"llvm.{which}.{'f32' if a.type == 'float' else 'f64'}"
        return self._outside(a.type, name, [(a.type, a.name), (b.type, b.name)])

    def _clock_of(self) -> Value:
        return self._outside("i64", "llvm.readcyclecounter", [])

    def _copy_of(self, to: Value, at: Value, count: Value) -> Value:
        width = Value("literal", 4 if to.type == "*float" else 8)
        size = self._binary(ast.Mult(), self._convert(count, "i64"), width)
        arguments = [("ptr", to.name), ("ptr", at.name), ("i64", size.name), ("i1", "false")]
        return self._outside("void", "llvm.memcpy.p0.p0.i64", arguments)

    def _gemm_of(self, *arguments: Value) -> Value:
        return self._call_shared_product("gemm", arguments)

    def _tiled_of(self, *arguments: Value) -> Value:
        return self._call_shared_product("tiled", arguments)

    def _call_shared_product(self, name: str, arguments: tuple[Value, ...]) -> Value:
        """Return a call of a product that has an object file of its own."""
        self.program.shared.add(name)
        real, array = self.program.real, f"*{self.program.real}"
        kinds = ("i64", "i64", "i64", real, array, "i64", "i64", array, "i64", "i64", real, array, "i64")
        converted = [self._argument(*pair) for pair in zip(arguments, kinds, strict=True)]
        return self._outside("void", f"{name}_{real}", converted)

    def _blas_of(self, flip: Value, m: Value, n: Value, k: Value, *rest: Value) -> Value:
        """Return a call of the product of CBLAS; ``flip`` is 1 if A is stored transposed, 2 if B is, 3 if both are."""
        alpha, a, row_a, b, row_b, beta, c, row_c = rest
        zero = Value("literal", 0)
        bits = [self._binary(ast.BitAnd(), flip, Value("literal", which)) for which in (1, 2)]
        flips = [self._compare(ast.NotEq(), bit, zero) for bit in bits]
        orders = [self._select(bit, Value("literal", 112), Value("literal", 111)) for bit in flips]
        words = [("i32", 101), *(("i32", self._convert(order, "i32").name) for order in orders)]
        sizes = [("i64", size.name) for size in (m, n, k)]
        left = [("ptr", a.name), ("i64", row_a.name), ("ptr", b.name), ("i64", row_b.name)]
        ends = [("ptr", c.name), ("i64", row_c.name)]
        arguments = [*words, *sizes, (alpha.type, alpha.name), *left, (beta.type, beta.name), *ends]
        return self._outside("void", f"blas_{self.program.real}", arguments)

    def _tile_of(self, lanes: Value, rows: Value, vectors: Value, masked: Value, *rest: Value) -> Value:
        real, name = self.program.real, self.program.tile(lanes.name, rows.name, vectors.name, masked.name)
        array = f"*{real}"
        kinds = (array, "i64", "i64", array, "i64", array, "i64", "i64", real, real, "i64")
        return self._call("void", name, [self._argument(*pair) for pair in zip(rest, kinds, strict=True)])

    def _table_tile_of(self, lanes: Value, rows: Value, vectors: Value, masked: Value, *rest: Value) -> Value:
        name = self.program.table_tile(lanes.name, rows.name, vectors.name, masked.name)
        return self._call_tile(name, rest)

    def _hop_tile_of(self, lanes: Value, rows: Value, vectors: Value, masked: Value, *rest: Value) -> Value:
        name = self.program.hop_tile(lanes.name, rows.name, vectors.name, masked.name)
        return self._call_tile(name, rest, "i64", "i64")

    def _call_tile(self, name: str, arguments: tuple[Value, ...], *more: str) -> Value:
        """Return a call of a tile with tables, which may have more arguments at the end."""
        real, array = self.program.real, f"*{self.program.real}"
        kinds = (array, "i64", "*i64", array, "*i64", array, "i64", "i64", real, real, "i64", *more)
        return self._call("void", name, [self._argument(*pair) for pair in zip(arguments, kinds, strict=True)])

    def _dot_tile_of(self, lanes: Value, rows: Value, columns: Value, length: Value, *rest: Value) -> Value:
        name = self.program.dot_tile(lanes.name, rows.name, columns.name, length.name)
        real, array = self.program.real, f"*{self.program.real}"
        kinds = (array, "i64", "*i64", array, "i64", "*i64", array, "i64", "i64", "i64", real, real)
        return self._call("void", name, [self._argument(*pair) for pair in zip(rest, kinds, strict=True)])

    def _lanes_tile_of(self, lanes: Value, rows: Value, columns: Value, *rest: Value) -> Value:
        name, array = self.program.lanes_tile(lanes.name, rows.name, columns.name), f"*{self.program.real}"
        kinds = (array, "i64", "i64", array, "i64", "i64", "i64", "i64", array, array, "i64", "i64")
        return self._call("void", name, [self._argument(*pair) for pair in zip(rest, kinds, strict=True)])

    def _memory_of(self, count: Value) -> Value:
        self.count += 1
        self.slots.append(f"  %memory.{self.count} = alloca [{count.name} x {self.program.real}], align 64")
        return Value(f"*{self.program.real}", f"%memory.{self.count}")

    def _prefetch_of(self, x: Value, offset: Value) -> Value:
        at = self._convert(offset, "i64")
        line = self._add_line("ptr", f"getelementptr {x.type[1:]}, ptr {x.name}, i64 {at.name}")
        arguments = [("ptr", line.name), *(("i32", number) for number in (0, 3, 1))]  # to read, to keep, data
        return self._outside("void", "llvm.prefetch.p0", arguments)


def _functions(text: str) -> dict[str, ast.FunctionDef]:
    """Return the functions of a text by name."""
    return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


def _type_in_memory(kind: str) -> str:
    return "ptr" if kind[0] == "*" else kind
