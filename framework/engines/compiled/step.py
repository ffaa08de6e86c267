"""The source of the end of a step: the gradients, once every delta is known, and what the optimizer makes of them."""

from __future__ import annotations

from collections.abc import Callable

from framework.engines.compiled.expressions import Writer
from framework.engines.compiled.lower import Plan
from framework.optimizers import Optimizer

Product = Callable[[str, int], list[str]]
"""Gives the lines of a product of a layer: ("weights", 0) are those of the first layer's gradient."""

Scatter = Callable[[str, str], list[str]]
"""Gives the lines that add a multiple of dL/d(row) to rows of embeddings: ("ge", "") to those of the gradient."""

_OVER_PARAMETERS = ["for run in range(len(starts)):", "    for i in range(starts[run], stops[run]):"]


def step_source(
    plan: Plan, writer: Writer, widths: list[str], product: Product, tables: Scatter, totals: list[str]
) -> tuple[list[str], str]:
    """Return the lines of the end of a step, and the source of the function ``update``.

    Args:
        plan: The plan of the kernel.
        writer: Writes the update.
        widths: The number of units of each layer, as source.
        product: Gives the lines of a product.
        tables: Gives the lines that add to the rows of the embeddings.
        totals: The sum of the losses of each of several outputs, as source.
    """
    text, constants = writer.update(plan.update)
    names = [name for name in plan.update.inputs if name.startswith("memory_")]
    # Slices, so that each loop counts from 0: LLVM must see that no index is negative to make vectors of it.
    arrays = ["vector", "gradient", *(f"memory[{place}]" for place in range(len(names)))]
    parts = "".join(f", {array}[starts[run] : stops[run]]" for array in arrays)
    gradients = [*_gradients(widths, product), *tables("ge", "")]
    update = [
        *_clip(plan.optimizer, writer),
        "for run in range(len(starts)):",
        f"    update(rates[made], float(steps + made + 1){parts}{constants})",
    ]
    if plan.descends:
        # The sums are the same whether a callback reads the gradients or not, so it changes no bit.
        wanted = "if fold != 1 or begin + n == len(rows):  # the update needs them, or somebody may look"
        gradients = [wanted, *indented(gradients)]
        update = [
            "if fold:",
            *indented([*_descent(widths, product), *tables("e", "-rate * ")]),
            "else:",
            *indented(update),
        ]
    count = ["made += 1", "sums[0] += total", "sums[1] += count", "sums[2] = loss"]
    count += [f"sums[{place}] += {total}" for place, total in enumerate(totals, 3)]
    return [*gradients, *update, *count], text


def _gradients(widths: list[str], product: Product) -> list[str]:
    """Find every gradient."""
    lines: list[str] = []
    for i in reversed(range(len(widths))):
        units = f"for j in range({widths[i]}):"
        lines += [*product("weights", i), units, f"    gb_{i}[j] = h_{i}[0, j]"]
        lines += ["for i in range(1, n):", f"    {units}", f"        gb_{i}[j] += h_{i}[i, j]"]
    return lines


def _descent(widths: list[str], product: Product) -> list[str]:
    """Make a plain step of descent as part of the products that give the gradients."""
    lines = ["rate = real(rates[made])"]
    for i in reversed(range(len(widths))):
        lines += product("descend", i)
        lines += ["for i in range(n):", f"    for j in range({widths[i]}):", f"        b_{i}[j] -= rate * h_{i}[i, j]"]
    return lines


def _clip(optimizer: Optimizer, writer: Writer) -> list[str]:
    """Clip the gradient of all trainable parameters: first its norm, then each value."""
    lines: list[str] = []
    if optimizer.clip_norm is not None:
        most = f"c{writer.place(optimizer.clip_norm)}"
        lines += ["norm = 0.0", *_OVER_PARAMETERS, "        norm += float(gradient[i]) * float(gradient[i])"]
        lines += ["norm = math.sqrt(norm)", f"if norm > {most}:", f"    shrink = real({most} / norm)"]
        lines += [*indented(_OVER_PARAMETERS), "            gradient[i] *= shrink"]
    if optimizer.clip_value is not None:
        most = f"c{writer.place(optimizer.clip_value)}"
        inner = f"gradient[i] = minimum(maximum(gradient[i], real(-{most})), real({most}))"
        lines += [*_OVER_PARAMETERS, f"        {inner}"]
    return lines


def indented(lines: list[str], by: int = 1) -> list[str]:
    """Return the lines, indented by ``by`` more levels."""
    return [f"{'    ' * by}{line}" for line in lines]
