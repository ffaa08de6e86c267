"""``python -m framework``: the command line."""

from framework.cli import main

main()
