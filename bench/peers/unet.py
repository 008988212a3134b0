# SPDX-License-Identifier: Apache-2.0
"""The network of examples/unet in PyTorch, with the parameters' names of its checkpoints."""
import json
import math

import numpy
import torch
from torch import nn
from torch.nn import functional


def load_safetensors(path):
    """(metadata, {name: float32 tensor} in the file's order): a length, a JSON header, then the data."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        values = numpy.frombuffer(data[begin:end], dtype={"F16": numpy.float16, "F32": numpy.float32}[entry["dtype"]])
        tensors[name] = torch.from_numpy(values.astype(numpy.float32)).reshape(entry["shape"])
    return metadata, tensors


class Table(nn.Module):
    def __init__(self, rows, width):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))


class Time(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(width, width), nn.Linear(width, width)


class Block(nn.Module):
    def __init__(self, inputs, outputs, width):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.embedding = nn.Linear(width, 2 * outputs)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, embedded):
        hidden = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.embedding(embedded)[:, :, None, None].chunk(2, dim=1)
        hidden = self.conv2(functional.silu(torch.addcmul(shift, self.norm2(hidden), 1 + scale)))
        return hidden + (self.skip(x) if hasattr(self, "skip") else x)


class Attention(nn.Module):
    heads = 4

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        batch, channels, height, width = x.shape
        size = channels // self.heads
        q, k, v = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, size, height * width).unbind(1)
        weights = torch.softmax(q.transpose(-1, -2) @ k / math.sqrt(size), dim=-1)
        mixed = v @ weights.transpose(-1, -2)
        return x + self.proj(mixed.reshape(batch, channels, height, width))


class Stage(nn.Module):
    def __init__(self, inputs, outputs, width, attend):
        super().__init__()
        self.block = Block(inputs, outputs, width)
        if attend:
            self.attention = Attention(outputs)

    def forward(self, x, embedded):
        x = self.block(x, embedded)
        return self.attention(x) if hasattr(self, "attention") else x


class Down(Stage):
    """A level on the way down; all but the first shrink what they get."""

    def __init__(self, before, channels, width, attend, shrinks):
        super().__init__(before, channels, width, attend)
        if shrinks:
            self.shrink = nn.Conv2d(before, before, 3, stride=2, padding=1)

    def forward(self, x, embedded):
        return super().forward(self.shrink(x) if hasattr(self, "shrink") else x, embedded)


class Up(Stage):
    def __init__(self, below, channels, width, attend):
        super().__init__(2 * channels, channels, width, attend)
        self.narrow = nn.Conv2d(below, channels, 1)

    def forward(self, x, skipped, embedded):
        enlarged = functional.interpolate(self.narrow(x), scale_factor=2, mode="nearest")
        return super().forward(torch.cat([enlarged, skipped], dim=1), embedded)


class UNet(nn.Module):
    def __init__(self, channels, colours, embedding, classes, words, attention_from):
        super().__init__()
        width = self.width = embedding
        self.time = Time(width)
        self.add_module("class", Table(classes, width))
        self.word = Table(words, width)
        self.conv_in = nn.Conv2d(colours, channels[0], 3, padding=1)
        levels = range(len(channels))
        self.down = nn.ModuleList(
            Down(channels[max(l - 1, 0)], channels[l], width, l >= attention_from, l > 0) for l in levels)
        self.middle = Stage(channels[-1], channels[-1], width, True)
        self.up = nn.ModuleList(Up(channels[l + 1], channels[l], width, l >= attention_from) for l in levels[:-1])
        self.norm_out = nn.GroupNorm(8, channels[0])
        self.conv_out = nn.Conv2d(channels[0], colours, 3, padding=1)

    def embed(self, times, labels, tokens):
        half = self.width // 2
        frequencies = torch.exp(-math.log(1e4) * torch.arange(half, dtype=torch.float64) / half)
        angles = 1e3 * times.double()[:, None] * frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=1).float()
        time = self.time.linear2(functional.silu(self.time.linear1(waves)))
        known = tokens >= 0  # [batch, most tokens], padded with -1
        words = (self.word.weight[tokens.clamp(min=0)] * known[..., None]).sum(1) / known.sum(1, keepdim=True).clamp(min=1)
        return functional.silu(time + getattr(self, "class").weight[labels] + words)

    def forward(self, x, times, labels, tokens):
        embedded = self.embed(times, labels, tokens)
        x = self.conv_in(x)
        skipped = []
        for stage in self.down:
            x = stage(x, embedded)
            skipped.append(x)
        x = self.middle(x, embedded)
        for stage, skip in zip(reversed(self.up), reversed(skipped[:-1])):
            x = stage(x, skip, embedded)
        return self.conv_out(functional.silu(self.norm_out(x)))


def load(path):
    """The network of a checkpoint, and its parameters' names in the checkpoint's order."""
    metadata, tensors = load_safetensors(path)
    net = UNet(words=len(json.loads(metadata["words"])), **json.loads(metadata["shape"]))
    net.load_state_dict(tensors)
    return net, list(tensors)


def tunable(names):
    """Of these, the weights of convolutions and linear layers: not biases, norms, and tables of embeddings."""
    return [name for name in names
            if name.endswith(".weight") and "norm" not in name and name not in ("class.weight", "word.weight")]
