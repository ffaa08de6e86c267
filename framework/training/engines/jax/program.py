"""Program: steps of a training as one function that JAX compiles: a loop over the batches of a chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from framework.backends.jax import Source
from framework.base.extras import load_module


class State(NamedTuple):
    """Everything that a step changes.

    Attributes:
        values: The parameters that are trained.
        memory: The optimizer's arrays for each of them.
        buffers: The model's buffers.
        gradients: The gradients of the last step; a function that is given a state ignores them.
    """

    values: tuple[Any, ...]
    memory: tuple[tuple[Any, ...], ...]
    buffers: tuple[Any, ...]
    gradients: tuple[Any, ...] = ()


class Steps(NamedTuple):
    """The arguments of a chunk of steps.

    Attributes:
        data: The leaves of x and y and the weight of all rows.
        order: Which rows make up the batches.
        start: The first place in the order.
        steps: How many steps to make.
        fixed: The parameters that are not trained.
        counts: What the sum of each step's loss is divided by.
        numbers: The numbers of each step for each group of parameters.
        draws: The random arrays of each step.
    """

    data: tuple[Any, ...]
    order: Any
    start: Any
    steps: Any
    fixed: tuple[Any, ...]
    counts: Any
    numbers: tuple[Any, ...]
    draws: tuple[Any, ...]


@dataclass(frozen=True)
class Program:
    """Everything that the compiled function depends on, besides the shapes of its arguments.

    Attributes:
        step: (data, count, trained parameters, frozen ones, buffers, draws) -> what a step computes: total, totals,
            sound, gradients, buffers, and h and a if they are kept.
        penalties: (trained parameters) -> sound, and what is added to each gradient; None without penalties.
        updates: The update of each group of parameters, and their places among the trained ones.
        totals: How many figures have a total of their own.
        clips: The names of the clips, and their limits.
        rows: Rows in a batch.
        part_rows: Rows that go through the model at once.
    """

    step: Source
    penalties: Source | None
    updates: tuple[tuple[Source, tuple[int, ...]], ...]
    totals: int
    clips: tuple[tuple[str, float], ...] = ()
    rows: int = 0
    part_rows: int = 0

    @cached_property
    def _functions(self) -> tuple[Any, Any, Any, list[tuple[Any, tuple[int, ...]]]]:
        jax = load_module("jax", "engine='jax'")
        updates = [(source.function(jax), places) for source, places in self.updates]
        return jax, self.step.function(jax), self.penalties and self.penalties.function(jax), updates

    def gradients(self, state: State, batch: Any, count: Any, fixed: Any, draws: Any) -> tuple[Any, Any, State, Any]:
        """Return the totals of a batch, whether its step is sound, the state with its gradients, and its outputs."""
        jax, step, penalties, _ = self._functions

        def part(buffers: Any, batch: Any, draws: Any) -> Any:
            results = step(*batch, count, *state.values, *fixed, *buffers, *draws)
            stop = 2 + self.totals
            last = stop + len(state.values)
            end = last + len(buffers)
            return (results[: stop - 1], results[stop:last]), results[stop - 1], results[last:end], results[end:]

        if self.rows <= self.part_rows:
            (totals, slopes), sound, buffers, outputs = part(state.buffers, batch, draws)
        else:
            whole = self.rows // self.part_rows
            end = whole * self.part_rows
            blocks = jax.tree.map(
                lambda array: array[:end].reshape(whole, self.part_rows, *array.shape[1:]), (batch, draws)
            )

            def one(carried: Any, block: Any) -> Any:
                sums, sound, buffers = carried
                block_sums, fine, buffers, outputs = part(buffers, *block)
                return (jax.tree.map(lambda a, b: a + b, sums, block_sums), sound & fine, buffers), outputs

            zeros = jax.tree.map(jax.numpy.zeros_like, ((count,) * (1 + self.totals), state.values))
            carried, outputs = jax.lax.scan(one, (zeros, jax.numpy.bool_(True), state.buffers), blocks)
            outputs = tuple(output.reshape(end, *output.shape[2:]) for output in outputs)
            if end < self.rows:
                carried, last = one(carried, jax.tree.map(lambda array: array[end:], (batch, draws)))
                outputs = tuple(map(lambda a, b: jax.numpy.concatenate((a, b)), outputs, last))
            (totals, slopes), sound, buffers = carried
        if penalties is not None:
            fine, *added = penalties(*state.values)
            sound, slopes = sound & fine, tuple(map(lambda a, b: a + b, slopes, added))
        return totals, sound, state._replace(buffers=buffers, gradients=tuple(slopes)), outputs

    def update_state(self, state: State, numbers: Any) -> State:
        """Return the state after the optimizer's update."""
        functions = self._functions[3]
        values, memory, gradients = [*state.values], [*state.memory], state.gradients
        for name, limit in self.clips if gradients else ():
            gradients = _CLIPS[name](self._functions[0].numpy, gradients, limit)
        for (update, places), group_numbers in zip(functions, numbers, strict=True):
            scalars = [group_numbers[row] for row in range(group_numbers.shape[0])]
            for index in places:
                arrays = (values[index], gradients[index], *memory[index])
                made = update(*(array.reshape(-1) for array in arrays), *scalars)
                shape = values[index].shape
                values[index], *rest = (array.reshape(shape) for array in made)
                memory[index] = tuple(rest)
        return State(tuple(values), tuple(memory), state.buffers, gradients)

    def run(self, state: State, chunk: Steps) -> tuple[Any, State, tuple[Any, Any]]:
        """Make steps; return how many are sound, the state, and of each the totals and the outputs, (steps, ...).

        The first step that is not sound ends the chunk, and the state is then of no use: call again with ``steps`` as
        many as are sound. To choose between old and new state in each step would take 5% of the time of a small model.
        """
        jax = self._functions[0]
        jnp, lax = jax.numpy, jax.lax

        def going(carried: Any) -> Any:
            made, sound, _, _ = carried
            return (made < chunk.steps) & sound

        def step(made: Any, state: State) -> Any:
            rows = lax.dynamic_slice(chunk.order, (chunk.start + made * self.rows,), (self.rows,))
            batch = tuple(leaf.at[rows].get(mode="promise_in_bounds") for leaf in chunk.data)
            draws = tuple(draw[made] for draw in chunk.draws)
            return self.gradients(state, batch, chunk.counts[made], chunk.fixed, draws)

        def one(carried: Any) -> Any:
            made, _, state, results = carried
            totals, sound, stepped, outputs = step(made, state)
            checked = (
                totals[0],
                *(jnp.sum(jnp.square(g)) for g in stepped.gradients),
                *(jnp.sum(b) for b in stepped.buffers),
            )
            for total in checked:
                sound &= jnp.isfinite(total)
            state = self.update_state(stepped, tuple(number[made] for number in chunk.numbers))
            results = jax.tree.map(lambda array, value: array.at[made].set(value), results, (totals, outputs))
            return made + sound.astype(made.dtype), sound, state, results

        first = jnp.int32(0)
        totals, _, _, outputs = jax.eval_shape(step, first, state)
        results = jax.tree.map(
            lambda leaf: jnp.zeros((*chunk.counts.shape, *leaf.shape), chunk.counts.dtype), (totals, outputs)
        )
        state = state._replace(gradients=tuple(map(jnp.zeros_like, state.values)))
        made, _, state, results = lax.while_loop(going, one, (first, jnp.bool_(True), state, results))
        return made, state, results


def _clip_norm(jnp: Any, gradients: tuple[Any, ...], limit: float) -> tuple[Any, ...]:
    """Clip as the optimizer does: the norm is in multiples of the largest element."""
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(g), initial=0.0) for g in gradients]))
    unit = jnp.where(largest == 0, 1.0, largest)
    length = jnp.sqrt(sum(jnp.sum(jnp.square(g / unit)) for g in gradients))
    long = (length > limit / unit) & (largest > 0)
    return tuple(jnp.where(long, g / unit * (limit / length), g) for g in gradients)


_CLIPS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "norm": _clip_norm,
    "value": lambda jnp, gradients, limit: tuple(jnp.clip(g, -limit, limit) for g in gradients),
}

OPTIONS: dict[str, Any] = {}
"""Options for XLA; tests compile with less optimization, which is faster."""


@lru_cache(maxsize=32)
def compile_program(program: Program) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return ``run`` and ``gradients`` of a program, which JAX compiles once for the shapes of their arguments."""
    jax = load_module("jax", "engine='jax'")
    return tuple(jax.jit(function, compiler_options=OPTIONS or None) for function in (program.run, program.gradients))
