"""What runs an encoder: ONNX Runtime on a CPU, torch on a GPU or by choice. Importing this imports neither."""
