"""What a run shows and leaves: its log, curves, samples, report and displays."""
