# The public names of this package: see framework/base/lazy.py.

from framework.experiments.experiment import Experiment as Experiment
from framework.experiments.sweeps.sweep import Sweep as Sweep
