"""The means of ``python -m benchmarks.tables show``."""

from benchmarks.tables.results import means


def test_contenders_are_compared_on_the_seeds_that_all_have():
    losses = {("ours", "0"): 1.0, ("ours", "1"): 3.0, ("theirs", "0"): 2.0, ("theirs", "2"): ""}
    rows = [{"table": "t", "contender": name, "seed": seed, "loss": loss} for (name, seed), loss in losses.items()]
    assert means(rows, "loss") == {"t": {"ours": 1.0, "theirs": 2.0}}
    assert means([{**row, "seed": row["contender"]} for row in rows], "loss") == {}
