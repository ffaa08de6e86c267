"""What was measured, for people: tables of ratios, the bars they are held against, and a chart.

    python -m benchmarks.report docs/benchmarks.json --chart docs/benchmarks.png

A ratio is made in every round from two neighbours, as the medians of both; what is shown is the median of the rounds,
with the least and the greatest in brackets.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyperf

from benchmarks.bars import BARS
from benchmarks.contenders import FASTEST, OURS
from benchmarks.workloads import FURTHER, WORKLOADS

Results = Mapping[str, pyperf.Benchmark]
GROWTH_TOLERANCE = 1.1
SCALES = ((1.0, "s", 0.3), (1e3, "ms", 1e-3), (1e6, "µs", 1e-6), (1e9, "ns", 0.0))


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Make it from values."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.least:.3g} .. {self.greatest:.3g}]"


def about(bench: pyperf.Benchmark) -> Mapping[str, object]:
    """Return what belongs to the first round."""
    return bench.get_runs()[0].get_metadata()


def rounds(bench: pyperf.Benchmark) -> list[float]:
    """Return the median of each round."""
    return [statistics.median(run.values) for run in bench.get_runs()]


def ratio(results: Results, above: str, below: str) -> Spread | None:
    """Return the ratio of two benchmarks, or None when one was not measured."""
    if above not in results or below not in results:
        return None
    pairs = zip(rounds(results[above]), rounds(results[below]), strict=False)
    return Spread.of([a / b for a, b in pairs])


def scaled(bench: pyperf.Benchmark) -> str:
    """Return the spread of the rounds with its unit."""
    values = rounds(bench)
    if bench.get_unit() == "byte":
        factor, unit = 1e-6, "MB"
    else:
        middle = statistics.median(values)
        factor, unit = next((f, u) for f, u, low in SCALES if middle >= low)
    return f"{Spread.of([factor * value for value in values])} {unit}"


def tables(results: Results, names: list[str]) -> Iterator[str]:
    """Give a table in Markdown for each workload, and one more for growth."""
    for name in names:
        if rows := {key: bench for key, bench in results.items() if key.startswith(f"{name} ")}:
            yield table(results, name, rows)
    if any(name.startswith("growth") for name in names):
        yield growth(results)


def table(results: Results, name: str, rows: Results) -> str:
    """Return the table of a workload; times of the first epoch, then those of further ones, where there are epochs."""
    work = WORKLOADS[name]
    further = any(key.startswith(f"{name}{FURTHER} ") for key in results)
    what = {"cold": "a process", "memory": "peak", "inference": "a call"}.get(work.kind, "a step")
    bases = [base for base in (("import torch",) if work.kind == "cold" else OURS) if f"{name} {base}" in rows]
    epochs = {"": "first epoch: ", FURTHER: "further epochs: "} if further else {"": ""}
    heads = [f"{epoch}{text}" for epoch in epochs.values() for text in (what, *(f"over {base}" for base in bases))]
    lines = ["", f"**{name}**: {about(next(iter(rows.values())))['what']}", ""]
    lines += [row(["", *heads, "first run", "includes"]), "|" + "---|" * (len(heads) + 3)]
    for bench in sorted(rows.values(), key=lambda bench: statistics.median(rounds(bench))):
        facts = about(bench)
        contender = str(facts["contender"])
        cells = [cell for end in epochs for cell in times(results, f"{name}{end}", contender, bases)]
        first = Spread.of([run.get_metadata()["first_run"] for run in bench.get_runs()]) if "first_run" in facts else ""
        lines.append(row([contender, *cells, f"{first} s" if first else "", note(facts)]))
    return "\n".join(lines)


def times(results: Results, name: str, contender: str, bases: list[str]) -> list[str]:
    """Return the time of a contender, and its ratio to those of others."""
    key = f"{name} {contender}"
    if key not in results:
        return [""] * (1 + len(bases))
    spreads = ["" if contender == base else str(ratio(results, key, f"{name} {base}") or "") for base in bases]
    return [scaled(results[key]), *spreads]


def note(facts: Mapping[str, object]) -> str:
    """Return what a time includes, and what else must be said."""
    text = str(facts["includes"])
    if "file_bytes" in facts:
        file, more, before = (f"{facts[key] / 1e6:.0f} MB" for key in ("file_bytes", "allowed_bytes", "peak_before"))
        text += f"; file {file}, {more} more allowed, {before} before"
    work = WORKLOADS[str(facts["workload"])]
    if work.batch == 1 and work.kind == "neuron" and facts["rows"] < work.rows:
        text += f"; {facts['rows']:,} rows"
    return text


def row(cells: list[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"


def growth(results: Results) -> str:
    """Return how the seconds of a sample grow beside the work of a sample."""
    base = WORKLOADS["growth-base"]
    lines = ["", "**growth**: the seconds of a row over those of growth-base", ""]
    lines += [row(["", "contender", "seconds", "work", "grows faster than its work"]), "|" + "---|" * 5]
    for name, work in WORKLOADS.items():
        for contender in (*OURS, "numpy"):
            spread = ratio(results, f"{name} {contender}", f"{base.name} {contender}")
            if not name.startswith("growth") or work == base or spread is None:
                continue
            factor = work.multiplications / base.multiplications
            verdict = "YES" if spread.median > factor * GROWTH_TOLERANCE else "no"
            lines.append(row([name, contender, str(spread), f"{factor:.3g}", verdict]))
    return "\n".join(lines)


def bars(results: Results) -> Iterator[str]:
    """Give the table of the bars that can be judged by what was measured."""
    lines = []
    for bar in BARS:
        above = fastest(results, bar.above)
        below = fastest(results, bar.below)
        if below:
            spread = ratio(results, above, below)
        else:
            spread = Spread.of(rounds(results[above])) if above in results else None
        if spread is None:
            continue
        met = spread.median >= bar.bound if bar.least else spread.median <= bar.bound
        name = f"{above} / {below}" if below else f"{above}, s"
        bound = f"at {'least' if bar.least else 'most'} {bar.bound:g}"
        lines.append(row([name, str(spread), bound, "met" if met else "MISSED"]))
    if lines:
        yield from ["", "**bars**", "", row(["", "measured", "bar", ""]), "|" + "---|" * 4, *lines]


def fastest(results: Results, name: str) -> str:
    """Return a name, or that of the fastest benchmark where it stands for several; it may not be measured."""
    workload, _, contender = name.partition(" ")
    names = [each for peer in FASTEST.get(contender, ()) if (each := f"{workload} {peer}") in results]
    return min(names, key=lambda each: statistics.median(rounds(results[each])), default=name)


def machine(suite: pyperf.BenchmarkSuite) -> str:
    """Return what the figures depend on."""
    found: dict[str, object] = {}
    for bench in suite:
        found = dict(about(bench)) | found
    keys = ("cpu_model_name", "cpu_count", "threads", "platform", "python_version", "versions")
    return "\n" + "; ".join(f"{key} {found[key]}" for key in keys if key in found)


def chart(suite: pyperf.BenchmarkSuite, path: Path) -> None:
    """Draw a panel for each workload: the median of each contender over the best of this framework's engines.

    Where there are epochs, a filled circle is a step of further ones, and an empty circle one of the first.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 (only who wants a chart needs it)
    except ImportError:
        sys.exit("--chart needs matplotlib")
    results = {bench.get_name(): bench for bench in suite}
    names = [name for name, work in WORKLOADS.items() if work.kind != "memory" and not name.startswith("growth")]
    panels = {name: panel for name in names if (panel := spreads_over_best(results, name))}
    later = {name: spreads_over_best(results, f"{name}{FURTHER}") for name in panels}
    if not panels:
        sys.exit("--chart: there is nothing to draw")
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.1 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for axis, (name, panel) in zip(axes, panels.items(), strict=False):
        for place, contender in enumerate(panel):
            if later[name] and contender in later[name]:
                point(axis, later[name][contender], place + 0.15, contender)
                point(axis, panel[contender], place - 0.15, contender, markerfacecolor="white")
            else:
                point(axis, panel[contender], place, contender)
        axis.set_yticks(range(len(panel)), list(panel))
        axis.axvline(1, color="black", linewidth=0.8)
        shown = [*panel.values(), *later[name].values()]
        low, high = min(s.least for s in shown), max(s.greatest for s in shown)
        axis.set(xscale="log", xlim=(min(low / 1.5, 0.1), max(high * 1.5, 10)), title=name)
        axis.grid(axis="x", alpha=0.4)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.invert_yaxis()
    for axis in list(figure.axes)[len(panels) :]:
        axis.remove()
    figure.supxlabel(
        "time over that of this framework's faster engine (cold: over import framework); less is faster; "
        "empty circles: first epoch, filled: further epochs"
    )
    figure.savefig(path, dpi=110)


def point(axis, spread: Spread, place: float, contender: str, **style: object) -> None:
    """Draw a median with the least and the greatest."""
    error = [[spread.median - spread.least], [spread.greatest - spread.median]]
    axis.errorbar(spread.median, place, xerr=error, fmt="o", capsize=3, color=colour(contender), **style)


def colour(contender: str) -> str:
    """Return ours, that of the limit, or that of the peers."""
    if contender.startswith(("framework", "import framework", "fit", "first use", "compile")):
        return "#1b6ca8"
    return "#888888" if contender in {"limit", "python"} else "#d08a10"


def spreads_over_best(results: Results, workload: str) -> dict[str, Spread]:
    """Return each contender's ratio to the faster one of our engines, from the fastest on; empty without ours."""
    ours = ("import framework",) if workload == "cold" else OURS
    bases = [name for base in ours if (name := f"{workload} {base}") in results]
    if not bases:
        return {}
    best = min(bases, key=lambda name: statistics.median(rounds(results[name])))
    names = [name for name in results if name.startswith(f"{workload} ")]
    spreads = {name.removeprefix(f"{workload} "): ratio(results, name, best) for name in names}
    return dict(sorted(spreads.items(), key=lambda item: item[1].median))


def main() -> None:
    """Print the tables of a file again, and draw its chart."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.splitlines()[0])
    parser.add_argument("json", type=Path, help="what python -m benchmarks --json has written")
    parser.add_argument("--chart", type=Path, help="draw the chart into this PNG; needs matplotlib")
    options = parser.parse_args()
    suite = pyperf.BenchmarkSuite.load(str(options.json))
    results = {bench.get_name(): bench for bench in suite}
    for text in tables(results, list(WORKLOADS)):
        print(text)
    print("\n".join(bars(results)))
    print(machine(suite))
    if options.chart:
        chart(suite, options.chart)


if __name__ == "__main__":
    main()
