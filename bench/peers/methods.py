# SPDX-License-Identifier: Apache-2.0
"""Ways to train some weights of a network in PyTorch. Each takes the network, the names of those weights, and the
settings of a benchmark; the network's other parameters do not learn.

full       every one of these weights learns, by torch.optim.AdamW
masked     the smallest entries of them learn: dense gradients times a boolean mask, as LT-SFT does
lora       as many parameters as these in low-rank adapters beside frozen weights
sparse     the smallest learn: each layer's own backward takes the dense gradient's entries and forgets the rest
published  the smallest learn, as the code published with SaRA does it: nodes of autograd, made for all weights before
           the forward pass, take the entries of dense gradients, and so run when all of these exist
"""
import sys

import torch
from torch import nn
from torch.nn import functional


def adamw(parameters, given, **how):
    return torch.optim.AdamW(parameters, lr=given["rate"], betas=(given["beta1"], given["beta2"]),
                             eps=given["epsilon"], weight_decay=0, **how)


def smallest(parameters, fraction):
    """Positions of the smallest magnitudes over all tensors, equal ones in their order: one list a tensor."""
    magnitudes = torch.cat([p.detach().abs().flatten() for p in parameters])
    count = round(fraction * len(magnitudes))
    cut = magnitudes.kthvalue(count).values
    chosen = magnitudes < cut
    ties = torch.nonzero(magnitudes == cut).flatten()[:count - int(chosen.sum())]
    chosen[ties] = True
    return [torch.nonzero(part).flatten() for part in chosen.split([p.numel() for p in parameters])]


class Full:
    def __init__(self, net, names, given):
        self.optimizer = adamw([net.get_parameter(name).requires_grad_() for name in names], given)

    def step(self):
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class Masked:
    def __init__(self, net, names, given):
        self.parameters = [net.get_parameter(name).requires_grad_() for name in names]
        self.masks = []
        for p, positions in zip(self.parameters, smallest(self.parameters, given["fraction"])):
            mask = torch.zeros(p.numel(), dtype=torch.bool, device=p.device)
            mask[positions] = True
            self.masks.append(mask.reshape(p.shape))
        self.optimizer = adamw(self.parameters, given)

    def step(self):
        for p, mask in zip(self.parameters, self.masks):
            p.grad.mul_(mask)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class LowRank(nn.Module):
    """y = base(x) + B A x, with A as large as the base's kernel and B without."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        if isinstance(base, nn.Linear):
            self.a = nn.Linear(base.in_features, rank, bias=False)
            self.b = nn.Linear(rank, base.out_features, bias=False)
        else:
            self.a = nn.Conv2d(base.in_channels, rank, base.kernel_size, base.stride, base.padding, bias=False)
            self.b = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        nn.init.zeros_(self.b.weight)
        self.to(base.weight)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


class LoRA:
    def __init__(self, net, names, given):
        bases = [net.get_submodule(name[:-len(".weight")]) for name in names]
        total = sum(base.weight.numel() for base in bases)
        each_rank = sum(base.weight.shape[0] + base.weight[0].numel() for base in bases)
        rank = max(1, round(given["fraction"] * total / each_rank))
        for name, base in zip(names, bases):
            path, _, child = name[:-len(".weight")].rpartition(".")
            setattr(net.get_submodule(path), child, LowRank(base, rank))
        learned = [p for module in net.modules() if isinstance(module, LowRank)
                   for p in (module.a.weight, module.b.weight)]
        print(f"LoRA of rank {rank}: {sum(p.numel() for p in learned)} parameters", file=sys.stderr)
        self.optimizer = adamw(learned, given)

    def step(self):
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(context, x, values, weight, bias, positions):
        context.save_for_backward(x, weight, positions)
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(context, dy):
        x, weight, positions = context.saved_tensors
        gradient = (dy.T @ x).flatten()[positions]
        return dy @ weight if context.needs_input_grad[0] else None, gradient, None, None, None


class SparseConv(torch.autograd.Function):
    @staticmethod
    def forward(context, x, values, weight, bias, positions, stride, padding):
        context.save_for_backward(x, weight, positions)
        context.geometry = stride, padding
        return functional.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(context, dy):
        x, weight, positions = context.saved_tensors
        stride, padding = context.geometry
        dx, dw, _ = torch.ops.aten.convolution_backward(
            dy, x, weight, None, stride, padding, (1, 1), False, (0, 0), 1, (context.needs_input_grad[0], True, False))
        return dx, dw.flatten()[positions], None, None, None, None, None


class Sparse:
    """The compact values are leaves of autograd, so that their gradients are born compact, layer by layer."""

    def __init__(self, net, names, given):
        self.weights = [net.get_parameter(name) for name in names]
        self.positions = smallest(self.weights, given["fraction"])
        self.values = [nn.Parameter(p.detach().flatten()[positions])
                       for p, positions in zip(self.weights, self.positions)]
        self.optimizer = adamw(self.values, given)
        for name, values, positions in zip(names, self.values, self.positions):
            module = net.get_submodule(name[:-len(".weight")])
            module.forward = self.forward_of(module, values, positions)

    @staticmethod
    def forward_of(module, values, positions):
        if isinstance(module, nn.Linear):
            return lambda x: SparseLinear.apply(x, values, module.weight, module.bias, positions)
        return lambda x: SparseConv.apply(x, values, module.weight, module.bias, positions, module.stride,
                                          module.padding)

    def step(self):
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for weight, values, positions in zip(self.weights, self.values, self.positions):
                weight.view(-1)[positions] = values


class Mapping(torch.autograd.Function):
    """The weight with new values where the mask is; its gradient is that of the values."""

    @staticmethod
    def forward(context, values, weight, mask):
        context.save_for_backward(mask)
        weight[mask] = values
        return weight.detach()

    @staticmethod
    def backward(context, gradient):
        return gradient[context.saved_tensors[0]], None, None


class Published:
    """Without that code's faults: it goes on from the weights themselves, not from their absolute values."""

    def __init__(self, net, names, given):
        self.weights = [net.get_parameter(name).detach() for name in names]
        self.modules = [net.get_submodule(name[:-len(".weight")]) for name in names]
        self.masks = []
        for weight, positions in zip(self.weights, smallest(self.weights, given["fraction"])):
            mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
            mask[positions] = True
            self.masks.append(mask.reshape(weight.shape))
        self.values = [nn.Parameter(weight[mask]) for weight, mask in zip(self.weights, self.masks)]
        self.optimizer = adamw(self.values, given, foreach=False)  # tensor by tensor, as there
        for module in self.modules:
            del module._parameters["weight"]
        self.map()

    def map(self):
        for module, values, weight, mask in zip(self.modules, self.values, self.weights, self.masks):
            module.weight = Mapping.apply(values, weight, mask)

    def step(self):
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.map()


methods = {"full": Full, "masked": Masked, "lora": LoRA, "sparse": Sparse, "published": Published}
