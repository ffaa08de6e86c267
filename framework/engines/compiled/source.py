"""The source of a kernel that predicts: ``predict``, and the functions of products and formulas that it calls."""

from __future__ import annotations

from framework.engines.compiled.loops import Loops, Place, indented
from framework.engines.compiled.lower import Prediction, prediction
from framework.engines.compiled.wiring import Operation, Wiring

LEAST_ROWS, SCRATCH_NUMBERS = 16, 4096
"""A formula over rows takes this many numbers at once, and at least this many rows."""

_HEAD = """
rows = words[0]
size = words[1]
to: reals = words[2]
h: reals = words[3]
stride = words[4]
memory: arrays = words[5]
sizes: ints = words[6]
c: floats = words[7]
"""

_PRODUCTS = '''
def dense(n: int, inputs: int, units: int, x: reals, w: reals, b: reals, h: reals):
    """h = x w + b; a row of h has the same bits whatever n is."""
    tiled(n, units, inputs, real(1.0), x, inputs, 1, w, units, 1, real(0.0), h, units)
    for i in range(n):
        for j in range(units):
            h[i * units + j] += b[j]


def unit(n: int, inputs: int, units: int, x: reals, w: reals, b: reals, h: reals):
    for i in range(n):
        total = real(0.0)
        for k in range(inputs):
            total += x[i * inputs + k] * w[k]
        h[i] = total + b[0]
'''


class PredictionSource:
    """Writes ``predict``, which works through the rows in blocks, so that its memory stays small.

    The words are the numbers of rows and of those in a block, where a and h of the output go, how far the rows of h lie
    apart, or 0, the arrays of ``memory``, sizes and constants. Matrix m is ``x_m``. Operation i of a Dense writes
    ``h_i``.

    Attributes:
        text: A program in the kernel language.
        constants: The numbers of ``c``.
        sizes: The numbers of ``sizes``.
        memory: The arrays of ``memory`` by name: (numbers of a row, further numbers).
        parameters: Those of ``memory`` that belong to a layer: its operation, "parameters" or "buffers", and a name.
        size: The rows in a block.
        h: The name of the array that holds h of the output.
        h_width: How many numbers of a row it has; 0 if it is the input or the output.
    """

    def __init__(self, wiring: Wiring, dtype: str, size: int) -> None:
        """Write the program.

        Raises:
            CannotLower: A kernel has no form for some operation.
        """
        self.wiring, self.dtype, self.size = wiring, dtype, size
        self.constants: list[float] = []
        self.sizes: list[int] = []
        self.memory: dict[str, tuple[int, int]] = {}
        self.parameters: dict[str, tuple[int, str, str]] = {}
        self._functions: dict[str, str] = {}
        self._places: dict[tuple[str, object], int] = {}
        self._predictions = [prediction(operation, dtype) for operation in wiring.operations]
        last, operation = len(wiring.widths) - 1, wiring.operations[-1]
        self.h = f"x_{last}"
        if operation.affine:
            self.h = self._written(len(wiring.operations) - 1)
        elif operation.layer is None:
            self.h = f"x_{operation.reads[0]}"
        self.h_width = 0 if self.h in ("x_0", f"x_{last}") else operation.width
        self.text = self._text(last)

    def _text(self, last: int) -> str:
        aliases = {  # by name, the arrays that a block finds in those of all rows
            self.h: "h[begin * stride:]",
            f"x_{last}": f"to[begin * {self._width(last)}:]",
            "x_0": f"x[begin * {self._width(0)}:]",
        }
        body = self._forward()
        for name in aliases:
            self.memory.pop(name, None)
        arrays = [f"{name}: reals = memory[{place}]" for place, name in enumerate(self.memory)]
        block = ["n = min(size, rows - begin)", *(f"{name} = {text}" for name, text in aliases.items()), *body]
        lines = [*_HEAD.split("\n")[1:-1], *arrays, "for begin in range(0, rows, size):", *indented(block)]
        predict = "\n".join(["def predict(words: arrays, x: reals):", *indented(lines)])
        return "\n\n\n".join([_PRODUCTS.strip(), *self._functions.values(), predict, ""])

    # names

    def _size(self, key: tuple[str, object], value: int) -> str:
        """Return the text of a number of ``sizes``, whose key is the same whatever its value."""
        if key not in self._places:
            self._places[key] = len(self.sizes)
            self.sizes.append(value)
        return f"sizes[{self._places[key]}]"

    def _width(self, matrix: int) -> str:
        return self._size(("matrix", matrix), self.wiring.widths[matrix])

    def _array(self, name: str, width: int) -> str:
        """Return the name of an array of ``memory`` with this many numbers in a row."""
        self.memory.setdefault(name, (width, 0))
        return name

    def _matrix(self, m: int) -> str:
        return self._array(f"x_{m}", self.wiring.widths[m])

    def _target(self, i: int) -> int:
        """Return the matrix that an operation writes."""
        matrix = self.wiring.operations[i].writes
        assert matrix is not None
        return matrix

    def _h(self, i: int) -> str:
        return self._array(f"h_{i}", self.wiring.operations[i].width)

    def _parameter(self, i: int, name: str, group: str = "parameters") -> str:
        layer = self.wiring.operations[i].layer
        place = [*layer.layout(), *layer.initial_buffers()].index(name)
        array = self._array(f"p_{i}_{place}", 0)
        self.parameters[array] = i, group, name
        return array

    # calls

    def _call(self, loops: Loops, width: tuple[str, int], given: dict[str, str]) -> str:
        """Return the line that calls the function of a formula; equal functions are one."""
        self._functions.setdefault(loops.text, loops.text.replace(Loops.NAME, f"formula_{len(self._functions)}"))
        name = f"formula_{[*self._functions].index(loops.text)}"
        text, units = width
        most = max(1, min(self.size, max(LEAST_ROWS, SCRATCH_NUMBERS // units)))
        arguments = {"n": "n" if loops.direction != "flat" or loops.narrow else f"n * {text}", "width": text}
        if loops.direction == "rows":
            arguments["most"] = self._size(("most", text), most)
        if loops.cells:
            room = (self.size if loops.direction == "units" else most) * units
            place = self._size(("room", (text, loops.direction)), room)
            _, before = self.memory.get("scratch", (0, 0))
            self.memory["scratch"] = (0, max(before, loops.cells * room))
            arguments |= {f"cell_{cell}": f"scratch[{cell} * {place}:]" for cell in range(loops.cells)}
        if loops.constants:
            arguments["c"] = f"c[{len(self.constants)}:]"
            self.constants += loops.constants
        arguments |= given
        return f"{name}({', '.join(arguments[each] for each in loops.arguments)})"

    # forward

    def _forward(self) -> list[str]:
        """Go through all operations."""
        lines: list[str] = []
        for i, (operation, made) in enumerate(zip(self.wiring.operations, self._predictions, strict=True)):
            if operation.affine:
                lines.append(self._product(i, operation))
            if not self._direct(i):
                lines.append(self._formula(i, operation, made))
        return lines

    def _product(self, i: int, operation: Operation) -> str:
        """Return the call of the product of a layer."""
        (m,) = operation.reads
        sizes = ["n", self._width(m), self._width(self._target(i))]
        arrays = [self._matrix(m), self._parameter(i, "weights"), self._parameter(i, "bias"), self._written(i)]
        return f"{'unit' if operation.width == 1 else 'dense'}({', '.join([*sizes, *arrays])})"

    def _direct(self, i: int) -> bool:
        """Return whether a product writes its matrix itself, as no activation comes between."""
        record = self._predictions[i].record
        return self.wiring.operations[i].affine and record.outputs["a"] is record.inputs["h"]

    def _written(self, i: int) -> str:
        """Return the array that a product writes."""
        return self._matrix(self._target(i)) if self._direct(i) else self._h(i)

    def _formula(self, i: int, operation: Operation, made: Prediction) -> str:
        """Return the call of a formula."""
        reads, given = self._given(i, operation, made)
        given |= {"a": self._matrix(self._target(i))}
        loops = Loops(made.record, self.dtype, reads, {"a": Place("a")}, narrow=operation.width == 1)
        return self._call(loops, (self._width(self._target(i)), operation.width), given)

    def _given(self, i: int, operation: Operation, made: Prediction) -> tuple[dict[str, Place], dict[str, str]]:
        """Return where the arguments of a formula are, and what is given for them."""
        if operation.affine:
            return {"h": Place("x")}, {"x": self._h(i)}
        x = [self._matrix(m) for m in operation.reads]
        if len(x) == 2:
            return {"x0": Place("x0"), "x1": Place("x1")}, {"x0": x[0], "x1": x[1]}
        reads, given = {"h" if operation.layer is None else "x": Place("x")}, {"x": x[0]}
        for place, name in enumerate(made.parameters):
            reads[name], given[f"p{place}"] = Place(f"p{place}", "row"), self._parameter(i, name)
        for place, name in enumerate(made.buffers):
            reads[name], given[f"b{place}"] = Place(f"b{place}", "row"), self._parameter(i, name, "buffers")
        return reads, given
