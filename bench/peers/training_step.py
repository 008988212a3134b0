# SPDX-License-Identifier: Apache-2.0
"""One training step of the example's UNet in PyTorch, by a method of methods.py: training_step.py METHOD FOLDER PLACE.

Places: place.py.
"""
import json
import pathlib
import sys

import numpy
import torch
from torch.nn import functional

import unet
from methods import methods
from place import place
from worker import resident_memory, serve

idle = resident_memory()
torch.manual_seed(1)
here = place(sys.argv[3])
folder = pathlib.Path(sys.argv[2])
given = json.loads((folder / "numbers.json").read_text())


def read(name, shape, dtype=numpy.float32):
    return torch.from_numpy(numpy.fromfile(folder / name, dtype=dtype).reshape(shape))


size = (given["batches"], given["batch"])
noisy, target = (read(name, (*size, 3, given["side"], given["side"])) for name in ("noisy", "target"))
times = read("times", size)
labels = read("labels", size, numpy.int64)
tokens = read("tokens", (*size, -1), numpy.int64)


class Training:
    def __init__(self):
        self.net, names = unet.load(pathlib.Path(given["base"]))
        self.net.requires_grad_(False)
        self.method = methods[sys.argv[1]](self.net, unet.tunable(names), given)
        self.losses = []

    def run(self):
        i = len(self.losses) % given["batches"]
        velocity = self.net(noisy[i], times[i], labels[i], tokens[i])
        loss = functional.mse_loss(velocity, target[i])
        loss.backward()
        self.method.step()
        self.losses.append(loss.item())

    def save(self):
        numpy.array(self.losses).tofile(folder / "losses")


training = Training()
serve(here, training.run, training.save, idle)
