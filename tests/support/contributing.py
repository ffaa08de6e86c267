"""The diffs of docs/contributing.md, which show how each kind of part is added."""

import os
import re
import subprocess
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "contributing.md"
DIFFS = re.findall(r"^```diff\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def git_apply(diff, folder, *options):
    """Apply a diff to the files of a folder."""
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(Path(folder).parent)}
    command = ["git", "apply", *options, "-"]
    done = subprocess.run(command, cwd=folder, env=environment, input=diff, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"correct this diff of docs/contributing.md to fit the code:\n{diff}{done.stderr}"
