"""Export: a trained model for programs that do not have this package."""

from framework.export.onnx import export_onnx

__all__ = ["export_onnx"]
