#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plots of results.json: plot.py RESULTS --out FOLDER. Draws what the rows allow: a filtered run gives fewer plots."""
import argparse
import collections
import json
import math
import pathlib
import re

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot, ticker  # noqa: E402  after the choice of what draws

pyplot.rcParams.update({"svg.hashsalt": "sara", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3,
                        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})
LIMITS = ("one read", "one read, positions written", "streaming 28 B an entry", "the same bytes moved")


def grouped(rows, *keys):
    """Lists of rows that have the same values of the keys, in the order of their first."""
    groups = collections.OrderedDict()
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups.items()


def counted(threads):
    return f"{threads} thread{'s' if threads > 1 else ''}"


def save(figure, folder, name):
    figure.tight_layout()
    file = folder / f"{name}.svg"
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
    print(file)


def plain_numbers(axis):
    """1, 2, 5, 10 … on a logarithmic axis."""
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def ratio_over_density(rows, folder):
    """How many times faster than the fastest dense way; below 1 the dense way wins."""
    rows = [r for r in rows if re.match(r"linear$|linear by dots|convolution", r["case"]) and r["threads"] == 1]
    for (name,), some in grouped(rows, "case"):
        figure, axes = pyplot.subplots(figsize=(6.5, 4.2))
        styles = collections.defaultdict(lambda: ("-", ":", "--", "-.")[len(styles) % 4])
        colours = collections.defaultdict(lambda: f"C{len(colours)}")
        for (shape, dtype), line in grouped(some, "shape", "dtype"):
            fastest = {density: min(r["ratio"] for r in same) for (density,), same in grouped(line, "density")}
            densities = sorted(fastest)
            if len(densities) < 2:
                continue
            size, batch = shape.rsplit(" ", 1)
            axes.plot([100 * d for d in densities], [fastest[d] for d in densities], marker="o", markersize=3,
                      color=colours[size, dtype], linestyle=styles[batch],
                      label=shape.replace(" B", ", batch ") + ("" if dtype == "float32" else ", " + dtype))
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="selected weights, %", ylabel="times faster than the dense way",
                 title=f"{name}: gradient at the selected weights")
        plain_numbers(axes.xaxis)
        plain_numbers(axes.yaxis)
        axes.legend(fontsize=6)
        save(figure, folder, "ratio-" + re.sub(r"\W+", "-", name))


def size_of(shape):
    """Number of weights of a shape as the table writes it."""
    if found := re.match(r"(\d+) M", shape):
        return int(found[1]) * 1e6
    if found := re.match(r"(\d+)->(\d+)", shape):
        return int(found[1]) * int(found[2]) * 9
    if found := re.match(r"(\d+)x(\d+)", shape):
        return int(found[1]) * int(found[2])
    return math.nan


def time_over_size(rows, folder):
    """On log axes a kernel whose time per useful operation stays flat is parallel to the diagonal."""
    rows = [r for r in rows if r["case"].startswith("growth ") or
            r["case"] == "U V^T at M" and r["density"] == 0.058]
    for (name,), some in grouped(rows, "case"):
        figure, (time, each) = pyplot.subplots(1, 2, figsize=(9, 3.6))
        for (threads,), line in grouped(some, "threads"):
            first = {r["shape"]: r for r in reversed(line)}.values()
            first = sorted(first, key=lambda r: size_of(r["shape"]))
            sizes = [size_of(r["shape"]) for r in first]
            label = "sara" if "device" in line[0] else f"sara, {counted(threads)}"
            time.plot(sizes, [r["sara_ms"] for r in first], marker="o", markersize=3, label=label)
            work = [r["flops"] or r["bytes"] for r in first]
            each.plot(sizes, [1e6 * r["sara_ms"] / w for r, w in zip(first, work)], marker="o", markersize=3,
                      label=label)
            unit = "useful flop" if first[0]["flops"] else "byte"
        for (threads, peer), line in grouped(some, "threads", "peer"):
            line = sorted(line, key=lambda r: size_of(r["shape"]))
            time.plot([size_of(r["shape"]) for r in line], [r["peer_ms"] for r in line], linestyle=":", linewidth=1,
                      label=peer if "device" in line[0] else f"{peer}, {threads}")
        time.set(xscale="log", yscale="log", xlabel="weights", ylabel="ms", title=name.removeprefix("growth "))
        each.set(xscale="log", xlabel="weights", ylabel=f"ns a {unit}", title="the same for each " + unit)
        each.set_ylim(bottom=0)
        time.legend(fontsize=6)
        save(figure, folder, "growth-" + re.sub(r"\W+", "-", name.removeprefix("growth ")))


def memory_of_stores(rows, folder):
    rows = [r for r in rows if r["case"].startswith("gather ") and not r["peer"] in LIMITS]
    sizes = {size_of(r["shape"]) for r in rows}
    rows = [r for r in rows if size_of(r["shape"]) == max(sizes)]
    if not rows:
        return
    figure, axes = pyplot.subplots(figsize=(5, 3.6))
    for (name,), line in grouped(rows, "case"):
        line = sorted(line, key=lambda r: r["density"])
        axes.plot([100 * r["density"] for r in line], [r["sara_bytes"] / 1e6 for r in line], marker="o", markersize=3,
                  label=name.removeprefix("gather "))
    axes.axhline(rows[0]["peer_bytes"] / 1e6, color="black", linestyle=":", label="boolean mask")
    axes.set(xscale="log", yscale="log", xlabel="selected weights, %", ylabel="MB",
             title=f"Positions in {max(sizes) / 1e6:.0f} million weights")
    axes.legend()
    save(figure, folder, "memory-stores")


def whole_step(rows, folder):
    rows = [r for r in rows if r["case"] in ("training step", "layer stack")]
    for (case, shape, dtype, threads), some in grouped(rows, "case", "shape", "dtype", "threads"):
        figure, (time, memory) = pyplot.subplots(1, 2, figsize=(8, 2.6), sharey=True)
        names = ["sara"] + [r["peer"] for r in some]
        colours = ["C1"] + ["C0"] * len(some)
        values = [some[0]["sara_ms"]] + [r["peer_ms"] for r in some]
        bytes_ = [some[0]["sara_bytes"] / 1e6] + [r["peer_bytes"] / 1e6 for r in some]
        idle = [some[0].get("sara_idle_bytes", 0) / 1e6] + [r.get("peer_idle_bytes", 0) / 1e6 for r in some]
        for axes, numbers, pattern in ((time, values, "%.3g"), (memory, bytes_, "%.0f")):
            axes.bar_label(axes.barh(names, numbers, color=colours), fmt=pattern, padding=2)
            axes.margins(x=0.15)
            axes.grid(False)
        on_device = "device" in some[0]
        if not on_device:
            memory.barh(names, idle, color="#bbbbbb", label="before anything is made")
            memory.legend(fontsize=6)
        time.invert_yaxis()
        time.set(xlabel="ms a step",
                 title=f"{shape}, {dtype}" if on_device else f"Whole training step, {counted(threads)}")
        memory.set(xlabel=f"MB, peak of {'device memory' if on_device else 'the process'}")
        name = f"{case} {shape} {dtype}" if on_device else f"{case} {threads}"
        save(figure, folder, re.sub(r"\W+", "-", name))


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("results", type=pathlib.Path)
    options.add_argument("--out", type=pathlib.Path, required=True)
    given = options.parse_args()
    rows = json.loads(given.results.read_text())
    given.out.mkdir(parents=True, exist_ok=True)
    for draw in (ratio_over_density, time_over_size, memory_of_stores, whole_step):
        draw(rows, given.out)


if __name__ == "__main__":
    main()
