"""A mark for tests in which a run goes on with other hooks than it began with: that is told, and they mean it."""

import pytest

_CALLBACKS_ALONE = r"resume. not everything is as when the run began; [^\n]*(\ncallback [^\n]*)+\Z"

hooks_differ = pytest.mark.filterwarnings(f"ignore:{_CALLBACKS_ALONE}:framework.errors.ResumeWarning")
