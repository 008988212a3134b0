# SPDX-License-Identifier: Apache-2.0
"""What every peer in Python does: work when the benchmark says so. The protocol: bench/harness/process.hpp."""
import sys


def status(name):
    """A number of bytes from the system's account of this process."""
    with open("/proc/self/status") as lines:
        for line in lines:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status: expected a line {name}, got none")


def resident_memory():
    return status("VmRSS")


def serve(place, run, save=None, idle=0):
    """Answers commands until the input ends. run() does the work once, at a place; save() writes its results.

    idle: bytes that the process had before it made anything of its own.
    """
    for line in sys.stdin:
        command = line.strip()
        if command == "run":
            answer = place.seconds(run)
        elif command == "save":
            save()
            answer = "saved"
        elif command == "memory":
            answer = place.peak()
        elif command == "idle":
            answer = idle
        else:
            sys.exit(f"expected run, save, memory or idle, got {command!r}")
        print(answer, flush=True)
