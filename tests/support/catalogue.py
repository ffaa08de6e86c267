"""The classes of the library, found by themselves, so that a new one is tested without being listed."""

import ast
import inspect

from framework import Component, Layer
from framework.base.lazy import families, import_all, import_public
from framework.training.callbacks.base import FunctionCallback

ABSTRACT = (Component, Layer)
"""Classes that are not complete, although they have no abstract method."""


def catalogue(*bases):
    """Return every class of these bases that can be made."""
    classes = [import_public(name) for name in families()]
    classes = [cls for cls in classes if inspect.isclass(cls) and issubclass(cls, bases or Component)]
    return [cls for cls in classes if not inspect.isabstract(cls) and cls not in (*ABSTRACT, FunctionCallback)]


def example(cls):
    """Return an instance with the default settings, or as the docstring makes one: of a layer, and where it must."""
    named = cls.model_config.get("extra") == "allow"  # settings whose names the user chooses
    if not issubclass(cls, Layer) and not named and not any(field.is_required() for field in cls.model_fields.values()):
        return cls()
    lines = inspect.getdoc(cls).partition("Example:")[2].splitlines()
    code = "\n".join(line.strip()[4:] for line in lines if line.strip().startswith((">>> ", "... ")))
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == cls.__name__:
            return eval(ast.unparse(node), import_all())
    raise AssertionError(f"the example of {cls.__name__} does not make one")
