# SPDX-License-Identifier: Apache-2.0
"""What every peer in Python does: work when the benchmark says so. The protocol: bench/harness/process.hpp."""
import sys
import time


def peak_memory():
    """The most bytes of memory that this process ever had."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status: expected a line VmHWM, got none")


def serve(run, save=None):
    """Answers commands until the input ends. run() does the work once; save() writes its results."""
    for line in sys.stdin:
        command = line.strip()
        if command == "run":
            begin = time.perf_counter()
            run()
            answer = time.perf_counter() - begin
        elif command == "save":
            save()
            answer = "saved"
        elif command == "memory":
            answer = peak_memory()
        else:
            sys.exit(f"expected run, save or memory, got {command!r}")
        print(answer, flush=True)
