"""Where models come from: modules without their packaging, Python files, checkpoints, exported programs, ONNX."""
