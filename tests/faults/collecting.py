"""`python -P collecting.py python -m hadir …`: the same in this process, which collects its garbage at SIGUSR2.

What a soak counts are blocks of memory that something holds. Garbage that waits for the collector goes up and down.
"""

import gc
import runpy
import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, lambda *_: gc.collect())
    sys.argv = sys.argv[3:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
