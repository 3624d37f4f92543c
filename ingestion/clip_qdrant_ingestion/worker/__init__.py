"""What lives longer than a run: the worker, watch mode, probes, metrics, logs."""
