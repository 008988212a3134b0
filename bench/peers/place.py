# SPDX-License-Identifier: Apache-2.0
"""Where a peer works: place("2") is two threads of the host, place("cuda") is a CUDA device."""
import time

import torch

from worker import status


class Host:
    device = torch.device("cpu")

    def __init__(self, threads):
        torch.set_num_threads(threads)

    def seconds(self, run):
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin

    def peak(self):
        return status("VmHWM")


class Cuda:
    """Times with events, and cold caches as the benchmarks in C++ do; counts what PyTorch's allocator has given."""

    def __init__(self):
        self.device = torch.device("cuda")
        self.other_data = torch.zeros(64 << 20, device=self.device)

    def seconds(self, run):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.other_data.sum()
        begin.record()
        run()
        end.record()
        end.synchronize()
        return 1e-3 * begin.elapsed_time(end)

    def peak(self):
        return torch.cuda.max_memory_allocated() - 4 * self.other_data.numel()


def place(name):
    return Cuda() if name == "cuda" else Host(int(name))


def set_tf32(allowed):
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
