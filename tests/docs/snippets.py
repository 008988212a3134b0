#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the code of README.md and docs/*.md with the tests it is taken from.

A block that opens with ```cpp file=tests/select/below.cpp#name must equal the lines between `// [name]` and
`// [/name]` of that file, without their common indentation. Run in the root of the repository.
"""
import pathlib
import re
import sys
import textwrap

BLOCK = re.compile(r"^```cpp file=(?P<file>[^#\s]+)#(?P<name>\S+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
MARKED = re.compile(r"^```.*\bfile=", re.MULTILINE)


def snippet(file, name):
    marked = re.search(rf"^ *// \[{re.escape(name)}\]\n(.*?)^ *// \[/{re.escape(name)}\]$", file.read_text(),
                       re.MULTILINE | re.DOTALL)
    return marked and textwrap.dedent(marked[1])


def faults(page):
    text = page.read_text()
    blocks = list(BLOCK.finditer(text))
    if len(blocks) != len(MARKED.findall(text)):
        yield f"{page}: a marked block is not of the form ```cpp file=PATH#NAME … ```"
    for block in blocks:
        place = f"{page}:{text.count(chr(10), 0, block.start()) + 1}"
        file = pathlib.Path(block["file"])
        expected = snippet(file, block["name"]) if file.is_file() else None
        if expected is None:
            yield f"{place}: {file} has no snippet between // [{block['name']}] and // [/{block['name']}]"
        elif expected != block["code"]:
            yield f"{place}: expected the snippet {block['name']} of {file}\n{expected}got\n{block['code']}"


pages = [pathlib.Path("README.md"), *sorted(pathlib.Path("docs").glob("**/*.md"))]
sys.exit("\n".join(fault for page in pages if page.is_file() for fault in faults(page)) or 0)
