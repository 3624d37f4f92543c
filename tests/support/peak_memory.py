"""The peak of memory of a process that a test starts, for its code. On Linux.

Not ru_maxrss: a process begins with that of the one which starts it, and one started by a large one sees no growth.
"""

from __future__ import annotations

__all__ = ["PEAK_MEMORY"]

# Defines peak_memory(), in KiB.
PEAK_MEMORY = """
import re
from pathlib import Path

def peak_memory():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
