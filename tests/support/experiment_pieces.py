"""What the tests of experiments share."""

from click.testing import CliRunner

from framework.cli import main


def command(*arguments, status=0):
    """Run a command, and return what it prints."""
    result = CliRunner().invoke(main, [*map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.output
