"""Print the changes of public names since a commit that can break a program: ``python scripts/api_changes.py v0.1.0``.

These are names that have gone, and arguments and defaults that differ. docs/versioning.md says which names are public.
The exit code is 1 if there are any. Needs the extra ``release``.
"""

import sys

import griffe

FAMILIES = ("base", "data", "experiments", "export", "formulas", "models", "preprocessing", "training")
SUBMODULES = ("sklearn", "testing", "views.plots")


def public_paths(package: griffe.Module) -> set[str]:
    """Return the public names, such as ``framework.Sigmoid``, and those of the modules that define them."""
    modules = [package[name] for name in SUBMODULES if name.partition(".")[0] in package.members]
    members = [member for module in modules for member in module.members.values() if member.is_public]
    families = [package, *(package[name] for name in FAMILIES if name in package.members)]
    members += [member for family in families for name, member in family.members.items() if name[0] != "_"]  # imported
    return {path for member in members if not member.is_module for path in (member.path, member.canonical_path)}


def main(commit: str) -> int:
    """Print the changes since a commit, and return the exit code."""
    before, now = griffe.load_git("framework", ref=commit, repo="."), griffe.load("framework", search_paths=["."])
    public = public_paths(before)
    changes = [
        change.explain(griffe.ExplanationStyle.MARKDOWN)
        for change in griffe.find_breaking_changes(before, now)
        if any(f"{change.obj.path}.".startswith(f"{path}.") for path in public)
    ]
    print("\n".join(changes) or f"no public name differs from {commit}")
    return bool(changes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) if len(sys.argv) == 2 else __doc__)
