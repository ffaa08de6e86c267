# The public names of this package: see framework/base/lazy.py.

from framework.base.errors import (
    CallbackError as CallbackError,
    CheckpointError as CheckpointError,
    DataError as DataError,
    DerivativeError as DerivativeError,
    DivergedError as DivergedError,
    DtypeError as DtypeError,
    FrameworkError as FrameworkError,
    ResumeWarning as ResumeWarning,
    SettingsError as SettingsError,
    ShapeError as ShapeError,
    UsageError as UsageError,
)
from framework.base.random_streams import random_generator as random_generator
from framework.base.settings.component import (
    Component as Component,
    Count as Count,
    Fraction as Fraction,
    NonNegative as NonNegative,
    Positive as Positive,
    Seed as Seed,
)
