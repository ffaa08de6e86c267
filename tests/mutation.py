"""Mutation testing: change one place of a part of the package, and see whether its tests fail.

Run it from the root of the repository, where ``os.fork`` exists::

    python -m tests.mutation optimizers           # 100 mutants
    python -m tests.mutation models --only 7,31   # two of them
    python -m tests.mutation models --all         # by all cases of the tests, not by the quick selection

It works on a copy of the checkout. A mutant runs in a fork of a process that has imported the third-party packages, and
stops at the first failure, so most cost a second or two. ``mutations`` lists the changes. They apply everywhere except
in imports, annotations, decorators, ``if TYPE_CHECKING``, the arguments of ``raise``, f-strings and other strings:
there they change no behaviour, or the text of a message alone.

Mutants are drawn by a hash of their text and the seed, so an edit elsewhere hardly changes the draw.
"""

import ast
import contextlib
import copy
import difflib
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click
import pytest

PARTS = {  # the part's folders of framework/ and of tests/, and what else in tests/ covers it
    "activations": (
        ["formulas/activations"],
        ["test_conformance.py", "formulas/derivatives/test_changed_globals.py", "backends/test_text.py"],
    ),
    "checkpoint": (
        ["training/checkpoint"],
        ["training/callbacks/test_saving.py", "training/callbacks/test_saving_folder.py"],
    ),
    "graph": (["graph"], ["backends", "formulas/derivatives/test_changed_globals.py", "test_docs_operations.py"]),
    "losses": (
        ["formulas/losses"],
        ["test_conformance.py", "test_refused_calls.py", "base/settings", "training/engines/test_engine.py"],
    ),
    "models": (
        ["models"],
        ["base/test_trees.py", "test_newcomer_mistakes.py", "test_user_mistakes.py"],
    ),
    "optimizers": (["training/optimizers"], ["test_conformance.py", "test_user_mistakes.py"]),
    "training": (
        ["training"],
        [],
    ),
}
PACKAGES = [
    "hypothesis",
    "jax.numpy",
    "llvmlite.binding",
    "pydantic",
    "safetensors.numpy",
    "scipy.special",
    "sklearn.metrics",
]
OPTIONS = ["-x", "-q", "-p", "no:randomly", "-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
PAIRS = [(ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn), (ast.Lt, ast.LtE), (ast.Gt, ast.GtE)]
PAIRS += [(ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.And, ast.Or), (ast.Break, ast.Continue)]
SWAP: dict[type, type] = dict(PAIRS) | {b: a for a, b in PAIRS}
SWAP |= {ast.FloorDiv: ast.Div, ast.Mod: ast.Div, ast.Pow: ast.Mult, ast.MatMult: ast.Mult}


def mutations(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST | str]]:  # noqa: C901, PLR0912 (a case a mutation)
    """Yield the places at this node, each with what replaces it."""
    match node:
        case ast.BinOp(ast.Constant(str()) | ast.JoinedStr()) | ast.BinOp(right=ast.Constant(str()) | ast.JoinedStr()):
            return  # text
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAP:
            changed = copy.copy(node)
            changed.op = SWAP[type(op)]()
            yield node, changed
        case ast.Compare():
            for place, op in enumerate(node.ops):
                changed = copy.copy(node)
                changed.ops = [*node.ops[:place], SWAP[type(op)](), *node.ops[place + 1 :]]
                yield node, changed
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node, node.operand
        case ast.Constant(bool() | int() | float() as value):
            yield node, repr(not value if isinstance(value, bool) else value + 1)
        case ast.Return(ast.expr() as value) | ast.Lambda(body=value) if ast.unparse(value) != "None":
            yield value, "None"
        case ast.Break() | ast.Continue():
            yield node, SWAP[type(node)]()
    match node:
        case ast.If(ast.Name("TYPE_CHECKING")) | ast.JoinedStr():
            return
        case ast.If(test) | ast.While(test) | ast.IfExp(test) if not isinstance(test, ast.Compare | ast.UnaryOp):
            yield test, ast.UnaryOp(ast.Not(), test)
        case ast.Raise() | ast.AugAssign() | ast.Delete() | ast.Expr(ast.Call()):
            yield node, ast.Pass()
        case ast.Assign([ast.Attribute() | ast.Subscript()]):
            yield node, ast.Pass()
    for field, inner in ast.iter_fields(node):
        if field not in {"annotation", "returns", "decorator_list", "exc", "cause"}:
            for child in inner if isinstance(inner, list) else [inner]:
                if isinstance(child, ast.AST):
                    yield from mutations(child)


def replaced(source: str, place: ast.AST, change: ast.AST | str) -> str:
    """Return the source with one place changed."""
    text = change if isinstance(change, str) else ast.unparse(change)
    lines = source.encode().splitlines(keepends=True)
    start, end = (sum(map(len, lines[: line - 1])) for line in (place.lineno, place.end_lineno))
    data, new = source.encode(), f"({text})" if isinstance(place, ast.expr) else text
    return (data[: start + place.col_offset] + new.encode() + data[end + place.end_col_offset :]).decode()


def drawn(folders: list[str], seed: int, count: int) -> list[tuple[Path, str, str, int | None]]:
    """Return mutants, each as the file, its source, its changed source and the line where its function begins."""
    mutants, seen = [], Counter()
    for path in sorted(file for folder in folders for file in Path("framework", folder).rglob("*.py")):
        source = path.read_text("utf-8")
        tree = ast.parse(source)
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)]
        for place, change in mutations(tree):
            text = change if isinstance(change, str) else ast.unparse(change)
            key = f"{seed} {path} {ast.unparse(place)} -> {text}"
            seen[key] += 1
            around = [f for f in functions if begin(f) <= place.lineno <= f.end_lineno]
            line = max(map(first_line, around), default=None)
            mutants.append((hashlib.sha256(f"{key} {seen[key]}".encode()).digest(), path, source, place, change, line))
    mutants = sorted(mutants, key=lambda mutant: mutant[0])[:count]
    return [(path, source, replaced(source, place, text), line) for _, path, source, place, text, line in mutants]


def begin(function: ast.FunctionDef | ast.Lambda) -> int:
    """Return the first line that runs at a call."""
    return (function.body[0] if isinstance(function, ast.FunctionDef) else function.body).lineno


def first_line(function: ast.FunctionDef | ast.Lambda) -> int:
    """Return the line where a function's code object begins."""
    return min([function.lineno, *(node.lineno for node in getattr(function, "decorator_list", []))])


class Watch:
    """Notes which tests call which function, and how long they take."""

    def __init__(self) -> None:
        """Note calls outside of tests, in imports for instance, under the name ''."""
        self.test, self.calls, self.took = "", defaultdict(set), {}

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Note a call; ``sys.setprofile`` takes this."""
        if event == "call":
            self.calls[frame.f_code].add(self.test)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self.test, start = item.nodeid, time.process_time()
        try:
            return (yield)
        finally:
            self.test, self.took[item.nodeid] = "", time.process_time() - start


class Chosen:
    """Runs some tests alone, the fastest first."""

    def __init__(self, took: dict[str, float]) -> None:
        """Keep these tests, by node id with their time."""
        self.took = took

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.took), key=lambda item: self.took[item.nodeid])


def passes(files: dict[str, float], plugin: Watch | Chosen, log: Path, wall: float, selection: list[str]) -> bool:
    """Run test files in a fork. The number of each is the processor time that it may take."""
    child = os.fork()
    if not child:
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1), os.dup2(handle, 2)
            if isinstance(plugin, Watch):
                sys.setprofile(plugin)
            for file, seconds in files.items():
                signal.setitimer(signal.ITIMER_PROF, seconds)
                if pytest.main([*OPTIONS, *selection, file], [plugin]) not in {0, pytest.ExitCode.NO_TESTS_COLLECTED}:
                    os._exit(1)
            sys.setprofile(None)
            if isinstance(plugin, Watch):
                calls: dict[str, list[str]] = defaultdict(list)
                for code, tests in plugin.calls.items():
                    if "/framework/" in code.co_filename:
                        calls[f"{code.co_filename}:{code.co_firstlineno}"] += tests
                log.write_text(json.dumps([calls, plugin.took]))
            os._exit(0)
        finally:
            os._exit(1)
    end = time.monotonic() + wall
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return (os.waitpid(child, 0) if ended == (0, 0) else ended)[1] == 0


@click.command()
@click.argument("part", type=click.Choice(sorted(PARTS)))
@click.option("--seed", default=0, show_default=True)
@click.option("--count", default=100, show_default=True)
@click.option("--only", default="", help="Numbers of mutants, with commas between them.")
@click.option("--all", "selection", flag_value="--all", help="Run all cases of the tests.")
@click.option("--quick", "selection", flag_value="--rotation=0", default=True, help="Run the quick selection.")
def main(part: str, seed: int, count: int, only: str, selection: str) -> None:
    """Report which mutants of PART survive its tests."""
    folders, others = PARTS[part]
    mutants = drawn(folders, seed, count)
    copied = Path(tempfile.mkdtemp(prefix=f"mutation-{part}-"))
    shutil.copytree(".", copied / "tree", ignore=shutil.ignore_patterns(".*", "benchmarks", "__pycache__", "build"))
    os.chdir(copied / "tree")
    os.environ |= {"PYTHONPATH": str(Path.cwd()), "OPENBLAS_NUM_THREADS": "1"}
    os.environ |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(copied))  # most of the time would be JAX's compiler
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background, where tests send it
    sys.path[0] = str(Path.cwd())
    del sys.modules["tests"]
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    for name in PACKAGES:
        importlib.import_module(name)

    own = [file for folder in folders for file in [f"framework/{folder}", *test_files(folder)]]
    took, calls, each, log = {}, defaultdict(set), {}, copied / "log"
    for file in own + [file for other in others for file in test_files(other)]:
        start = time.monotonic()
        if not passes({file: 3600}, Watch(), log, 3600, [selection]):
            click.echo(f"left out, because it fails without a mutation: {file}")
            continue
        took[file] = time.monotonic() - start
        found, seconds = json.loads(log.read_text())
        each |= seconds
        for place, tests in found.items():
            calls[place].update((file, test) for test in tests)
    click.echo(f"{len(took)} files of tests pass in {sum(took.values()):.0f} s")

    survivors, numbers = [], [int(number) for number in only.split(",")] if only else range(len(mutants))
    for number in numbers:
        path, source, changed, line = mutants[number]
        ran = calls.get(f"{path.resolve()}:{line}", set()) if line else {("", "")}
        everything = not ran or any(not test for _, test in ran)  # it runs in an import, or unseen
        rank = {file: (file not in own, path.stem not in file, seconds) for file, seconds in took.items()}
        files = {
            file: 10 + took[file]
            for file in sorted(took, key=rank.__getitem__)
            if everything or any(file == other for other, _ in ran)
        }
        start = time.monotonic()
        path.write_text(changed, "utf-8")
        os.utime(path, (number, number))  # so that no cached bytecode passes for it
        plugin = Chosen(each if everything else {test: each[test] for _, test in ran})
        survives = passes(files, plugin, log, 60 + 5 * sum(took.values()), [selection])
        path.write_text(source, "utf-8")
        lines = log.read_text("utf-8", "replace").splitlines()
        why = next((line for line in reversed(lines) if line.startswith(("FAILED", "ERROR"))), "stopped")
        tests = "all" if everything else len(ran)
        click.echo(
            f"{number:3} {path} {tests} {time.monotonic() - start:.0f} s: {'SURVIVES' if survives else why[:150]}"
        )
        if survives:
            survivors.append(number)
            diff = difflib.unified_diff(source.splitlines(), changed.splitlines(), str(path), str(path), lineterm="")
            click.echo("\n".join(diff))
    killed = len(numbers) - len(survivors)
    click.echo(f"{part}: {killed} of {len(numbers)} killed; survivors: {','.join(map(str, survivors))}")
    shutil.rmtree(copied)


def test_files(name: str) -> list[str]:
    """Return the test files of a folder of tests/, or the one file."""
    place = Path("tests", name)
    return sorted(map(str, place.glob("test_*.py"))) if place.is_dir() else [str(place)]


if __name__ == "__main__":
    main()
