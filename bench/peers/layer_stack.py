# SPDX-License-Identifier: Apache-2.0
"""One training step of a stack of Linear layers in PyTorch, by a method of methods.py: layer_stack.py METHOD FOLDER
PLACE.

y = relu(... relu(x W1^T) ...) Wn^T without a last relu, and its mean squared error. Places: place.py.
"""
import json
import pathlib
import sys

import numpy
import torch
from torch import nn
from torch.nn import functional

from methods import methods
from place import place, set_tf32
from worker import serve

here = place(sys.argv[3])
folder = pathlib.Path(sys.argv[2])
given = json.loads((folder / "numbers.json").read_text())
set_tf32(given["dtype"] == "tf32")
torch.manual_seed(1)


def read(name, shape):
    dtype = given["dtype"]
    if dtype in ("float32", "tf32"):
        tensor = torch.from_numpy(numpy.fromfile(folder / name, dtype=numpy.float32))
    else:  # numpy has no bfloat16
        tensor = torch.from_numpy(numpy.fromfile(folder / name, dtype=numpy.int16)).view(getattr(torch, dtype))
    return tensor.reshape(shape).to(here.device)


class Training:
    def __init__(self):
        width = given["width"]
        self.x, self.target = (read(name, (given["tokens"], width)) for name in ("x", "target"))
        weights = read("weights", (given["layers"], width, width))
        layers = []
        for weight in weights:
            layer = nn.Linear(1, 1, bias=False)
            layer.weight = nn.Parameter(weight.clone())
            layer.in_features = layer.out_features = width
            layers += [layer, nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1])
        self.net.requires_grad_(False)
        names = [f"{2 * i}.weight" for i in range(given["layers"])]
        self.method = methods[sys.argv[1]](self.net, names, given)
        self.losses = []
        if here.device.type == "cuda":  # of the steps, not of the selection
            del weights
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def run(self):
        loss = functional.mse_loss(self.net(self.x).float(), self.target.float())
        loss.backward()
        self.method.step()
        self.losses.append(loss.detach())  # not asked for its value, which would wait

    def save(self):
        torch.stack(self.losses).double().cpu().numpy().tofile(folder / "losses")


training = Training()
serve(here, training.run, training.save)
