"""scripts/release, in a small repository, with stand-ins for Python."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not shutil.which("git"), reason="needs Linux and Git")

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/bash
# Each module does nothing, except that the one named in the file "broken" fails.
! grep -q "^$2$" "$STATE/broken" 2> /dev/null || exit 1
case "$1 $2" in
"-m build") mkdir -p dist && touch dist/framework.whl ;;
"-m venv") mkdir -p "$3/bin" && echo "#!/bin/bash" | tee "$3/bin/pip" > "$3/bin/framework" && chmod +x "$3/bin/"* ;;
"-m towncrier") sed -i 's/^<!--.*/&\\n\\n## 0.1.0 (2026-01-01)/' CHANGELOG.md && git rm --quiet changes/*.*.md ;;
esac
"""


class Repository:
    """A clone with a release that can be made."""

    def __init__(self, folder):
        self.clone, self.state = folder / "clone", folder / "state"
        for path in (self.clone / "changes", self.clone / "scripts", self.clone / ".venv" / "bin", self.state):
            path.mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "release", self.clone / "scripts")
        self.write("pyproject.toml", 'version = "0.1.0"\n')
        self.write("CHANGELOG.md", "# Changelog\n\n<!-- releases -->\n\n## 0.1.0 (not released yet)\n")
        self.write("changes/README.md", "")
        self.write(".gitignore", ".venv\n.cache\ndist\n")
        for path in (self.clone / ".venv" / "bin" / "python", self.state / "python3"):
            path.write_text(PYTHON)
            path.chmod(0o755)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def write(self, name, text):
        (self.clone / name).write_text(text)

    def git(self, *arguments):
        done = subprocess.run(
            ["git", *arguments], cwd=self.clone, env=self.environment, check=True, capture_output=True
        )
        return done.stdout.decode().strip()

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "a change")

    @property
    def environment(self):
        who = {f"GIT_{role}_{key}": "a@b" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        return who | {"PATH": f"{self.state}:/usr/bin:/bin", "STATE": str(self.state), "HOME": str(self.state)}

    def release(self):
        command = [self.clone / "scripts" / "release"]
        return subprocess.run(command, env=self.environment, check=False, capture_output=True, text=True)


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def test_the_first_release_dates_its_entry_and_has_a_tag(repository):
    done = repository.release()
    assert done.returncode == 0, done.stderr
    assert "\n## 0.1.0 (2" in repository.git("show", "v0.1.0:CHANGELOG.md")
    assert repository.git("status", "--porcelain") == ""


def test_a_later_release_takes_its_entry_from_the_fragments(repository):
    repository.write("CHANGELOG.md", "# Changelog\n\n<!-- releases -->\n")
    repository.write("changes/+a.fixed.md", "A is mended.\n")
    repository.commit()
    repository.git("tag", "v0.0.9")
    done = repository.release()
    assert done.returncode == 0, done.stderr
    assert repository.git("ls-tree", "--name-only", "v0.1.0", "changes/") == "changes/README.md"


@pytest.mark.parametrize("module", ["build", "twine", "venv"])
def test_a_release_that_fails_leaves_no_change(repository, module):
    before = repository.git("rev-parse", "HEAD")
    (repository.state / "broken").write_text(f"{module}\n")
    assert repository.release().returncode == 1
    assert repository.git("rev-parse", "HEAD") == before
    assert repository.git("status", "--porcelain") == repository.git("tag") == ""


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("changes/+a.fixed.md", "A is mended.\n", "the first release has no fragments: move them to CHANGELOG.md\n"),
        ("CHANGELOG.md", "# Changelog\n", "CHANGELOG.md has no entry '## 0.1.0 (DATE)': write fragments in changes/\n"),
    ],
)
def test_a_release_without_its_entry_is_refused(repository, name, text, said):
    repository.write(name, text)
    repository.commit()
    assert repository.release().stderr == said


def test_a_release_of_another_branch_is_refused(repository):
    repository.git("switch", "--quiet", "--create", "other")
    assert repository.release().stderr == "a release is made on the branch main: git switch main\n"
