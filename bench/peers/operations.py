# SPDX-License-Identifier: Apache-2.0
"""PyTorch's own way to do what sara does, one operation a process: operations.py OPERATION FOLDER PLACE.

Inputs and results are files of plain numbers in the folder. Places: place.py.
"""
import json
import pathlib
import sys

import numpy
import torch

from place import place, set_tf32
from worker import serve

here = place(sys.argv[3])
folder = pathlib.Path(sys.argv[2])
input_bytes = 0  # of tensors that every contender has


def read(name, dtype=numpy.float32, is_input=True):
    global input_bytes
    tensor = torch.from_numpy(numpy.fromfile(folder / name, dtype=dtype)).to(here.device)
    input_bytes += is_input * tensor.numel() * tensor.element_size()
    return tensor


def read_as(dtype, name):
    """A tensor of the dtype that the benchmark names."""
    if dtype in ("float32", "tf32"):
        return read(name)
    return read(name, numpy.int16).view(getattr(torch, dtype))  # numpy has no bfloat16


def read_mask():
    return read("mask", numpy.bool_, is_input=False)


def numbers():
    return json.loads((folder / "numbers.json").read_text())


class Operation:
    """result is a tensor, or None before the first run."""

    result = None

    def save(self):
        numpy.ascontiguousarray(self.result.cpu().numpy()).tofile(folder / "result")


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
        self.weights, self.mask = read("weights"), read_mask()

    def run(self):
        self.result = torch.masked_select(self.weights, self.mask)


class MaskedAssign(Operation):
    """w[M] = p, with a boolean mask."""

    def __init__(self):
        self.weights, self.mask, self.values = read("weights"), read_mask(), read("values", is_input=False)
        self.result = self.weights

    def run(self):
        self.weights[self.mask] = self.values


class AdamW(Operation):
    """torch.optim.AdamW on a compact parameter."""

    def __init__(self):
        given = numbers()
        self.parameter = torch.nn.Parameter(read("values"))
        self.parameter.grad = read("gradient", is_input=False)
        fastest = {"fused": True} if here.device.type == "cuda" else {}
        self.optimizer = torch.optim.AdamW(
            [self.parameter], lr=given["rate"], betas=(given["beta1"], given["beta2"]), eps=given["epsilon"],
            weight_decay=given["weight_decay"], **fastest)
        self.result = self.parameter.detach()

    def run(self):
        self.optimizer.step()


class Linear(Operation):
    """The dense gradient of a Linear layer's weight, and its entries by a boolean mask."""

    def __init__(self):
        given = numbers()
        set_tf32(given["dtype"] == "tf32")
        self.dy = read_as(given["dtype"], "dy").reshape(given["tokens"], given["out"])
        self.x = read_as(given["dtype"], "x").reshape(given["tokens"], given["in"])
        self.mask = read_mask().reshape(given["out"], given["in"])

    def run(self):
        self.result = None  # its memory, for the next
        self.result = (self.dy.T @ self.x)[self.mask]

    def save(self):
        self.result.float().cpu().numpy().tofile(folder / "result")


class Convolution(Linear):
    """The same of a convolution's weight."""

    def __init__(self):
        given = numbers()
        set_tf32(given["dtype"] == "tf32")
        size = given["batch"], -1, given["side"], given["side"]
        self.dy, self.x = (read_as(given["dtype"], name).reshape(size) for name in ("dy", "x"))
        self.weight = torch.empty(given["out"], given["in"], given["kernel"], given["kernel"], dtype=self.x.dtype,
                                  device=here.device)
        self.mask = read_mask().reshape(self.weight.shape)

    def run(self):
        self.result = None
        padding = (self.weight.shape[2] - 1) // 2
        _, dw, _ = torch.ops.aten.convolution_backward(
            self.dy, self.x, self.weight, None, (1, 1), (padding, padding), (1, 1), False, (0, 0), 1,
            (False, True, False))
        self.result = dw[self.mask]


operations = {"linear": Linear, "convolution": Convolution, "nonzero": Nonzero, "kthvalue": KthValue,
              "masked_select": MaskedSelect, "masked_assign": MaskedAssign, "adamw": AdamW}
operation = operations[sys.argv[1]]()
serve(here, operation.run, operation.save, input_bytes)
