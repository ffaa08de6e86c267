"""``python -m benchmarks``."""

try:
    from benchmarks.run import main
except ModuleNotFoundError as error:
    raise SystemExit(f"python -m benchmarks needs {error.name}: pip install -e '.[bench]'") from None

main()
