"""Export: a trained model for programs that do not have this package; weights and networks from some of them."""

from framework.export.onnx import export_onnx
from framework.export.python import export_python
from framework.export.sklearn import from_sklearn
from framework.export.torch import load_torch, save_torch, to_torch

__all__ = ["export_onnx", "export_python", "from_sklearn", "load_torch", "save_torch", "to_torch"]
