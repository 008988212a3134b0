# SPDX-License-Identifier: Apache-2.0
"""PyTorch's own way to do what sara does, one operation a process: operations.py OPERATION FOLDER THREADS.

Inputs and results are files of plain numbers in the folder.
"""
import json
import pathlib
import sys

import numpy
import torch

from worker import serve

torch.set_num_threads(int(sys.argv[3]))
folder = pathlib.Path(sys.argv[2])


def read(name, dtype=numpy.float32):
    return torch.from_numpy(numpy.fromfile(folder / name, dtype=dtype))


def numbers():
    return json.loads((folder / "numbers.json").read_text())


class Operation:
    """result is a tensor, or None before the first run."""

    result = None

    def save(self):
        numpy.ascontiguousarray(self.result.numpy()).tofile(folder / "result")


class Nonzero(Operation):
    """|w| < θ into positions."""

    def __init__(self):
        self.weights, self.threshold = read("weights"), numbers()["threshold"]

    def run(self):
        self.result = torch.nonzero(self.weights.abs() < self.threshold).flatten()


class KthValue(Operation):
    """The k-th smallest magnitude."""

    def __init__(self):
        self.weights, self.rank = read("weights"), numbers()["rank"]

    def run(self):
        self.result = self.weights.abs().kthvalue(self.rank).values.reshape(1)


class MaskedSelect(Operation):
    """w[M], with a boolean mask."""

    def __init__(self):
        self.weights, self.mask = read("weights"), read("mask", numpy.bool_)

    def run(self):
        self.result = torch.masked_select(self.weights, self.mask)


class MaskedAssign(Operation):
    """w[M] = p, with a boolean mask."""

    def __init__(self):
        self.weights, self.mask, self.values = read("weights"), read("mask", numpy.bool_), read("values")
        self.result = self.weights

    def run(self):
        self.weights[self.mask] = self.values


class AdamW(Operation):
    """torch.optim.AdamW on a compact parameter."""

    def __init__(self):
        given = numbers()
        self.parameter = torch.nn.Parameter(read("values"))
        self.parameter.grad = read("gradient")
        self.optimizer = torch.optim.AdamW(
            [self.parameter], lr=given["rate"], betas=(given["beta1"], given["beta2"]), eps=given["epsilon"],
            weight_decay=given["weight_decay"])
        self.result = self.parameter.detach()

    def run(self):
        self.optimizer.step()


operations = {"nonzero": Nonzero, "kthvalue": KthValue, "masked_select": MaskedSelect, "masked_assign": MaskedAssign,
              "adamw": AdamW}
operation = operations[sys.argv[1]]()
serve(operation.run, operation.save)
