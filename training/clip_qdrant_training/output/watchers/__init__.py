"""What shows a run while it goes on: a live table, TensorBoard, Weights & Biases."""
