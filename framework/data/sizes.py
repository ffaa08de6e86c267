"""Sizes: how many rows are read, held and shuffled together. Orders of rows depend on them, so they are fixed."""

BLOCK_ROWS = 4096
"""Rows of a Dataset that follow one another in its file, wherever an epoch puts them."""

WINDOW_NUMBERS = 1 << 23
"""Numbers of x that are in memory and shuffled together: 65,536 rows of 128 numbers. A Dataset that has no more is
shuffled as arrays are."""

WINDOW_ROWS = 1 << 20
"""The most rows that are in memory and shuffled together."""

WINDOW_BLOCKS = 16
"""The fewest blocks of a window: those of wide rows have fewer than ``BLOCK_ROWS`` rows."""

READ_NUMBERS = 1 << 21
"""Numbers of x that are read at once from parts that are read from their beginning."""
