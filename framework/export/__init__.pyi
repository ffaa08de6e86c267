# The public names of this package: see framework/base/lazy.py.

from framework.export.onnx import export_onnx as export_onnx
from framework.export.python import export_python as export_python
from framework.export.sklearn import from_sklearn as from_sklearn
from framework.export.torch import load_torch as load_torch, save_torch as save_torch, to_torch as to_torch
