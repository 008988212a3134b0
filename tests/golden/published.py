# SPDX-License-Identifier: Apache-2.0
"""Writes published.pt as the published optimizer saves its state, by Python's torch.save.

Parameters are those of a Linear(12, 24) and a Linear(24, 5), entry i of parameter p is ((7 i + p) mod 41 - 20) / 100;
the j-th entry below 0.045 has learned (j + 1) / 1000.
"""
import torch

THRESHOLD = 0.045
state = {"threshold": THRESHOLD}
for p, size in enumerate([24 * 12, 24, 5 * 24, 5]):
    weight = ((7 * torch.arange(size) + p) % 41 - 20).float() / 100
    chosen = weight[weight.abs() < THRESHOLD]
    state[p] = chosen + torch.arange(1, len(chosen) + 1) / 1000
torch.save(state, "published.pt")
