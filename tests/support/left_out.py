"""A mark for tests that resume a run with other hooks on purpose: it ignores that warning, and no other."""

import pytest

_CALLBACKS_ALONE = r"resume. these changed since the run started, [^\n]*(\ncallback [^\n]*)+\Z"

hooks_differ = pytest.mark.filterwarnings(f"ignore:{_CALLBACKS_ALONE}:framework.base.errors.ResumeWarning")
