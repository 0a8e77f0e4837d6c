#!/usr/bin/env python3
"""The options have one table: the library's listing, the manual page and the
book must name the same ones, in the same order and words (options.h, O5).

    check_options.py ROOT TEST_OPTIONS LOAM_7
"""

import os
import re
import subprocess
import sys

root, listing, manual = sys.argv[1:]
sys.path.insert(0, os.path.join(root, "docs", "tools"))
import options_def  # noqa: E402

faults = []


def same(what, found, wanted):
    for one, other in zip(found, wanted):
        if one != other:
            faults.append(f"{what}: {one!r}, but the table says {other!r}")
    if len(found) != len(wanted):
        faults.append(f"{what}: {len(found)} options of {len(wanted)}")


rows, ignored = options_def.read(
    os.path.join(root, "gc", "api", "options.def"))
if not rows:
    faults.append("the table is empty")

said = subprocess.run([listing, "--list"], capture_output=True, text=True,
                      check=True).stdout.splitlines()
same("the listing", said, ["|".join(row) for row in rows])

with open(manual, encoding="utf-8") as file:
    page = file.read().replace("\\-", "-")
same("the manual page", re.findall(r"^\.B (LOAM_[A-Z_]+)$", page, re.M),
     [row.name for row in rows])
for row in rows:
    for text in (row.meaning[1:], row.form):
        if text not in page:
            faults.append(f"the manual page lacks {text!r}")

known = {row.name for row in rows} | {one.name for one in ignored}
with open(os.path.join(root, "docs", "options.md"), encoding="utf-8") as file:
    if "```{options}" not in file.read():
        faults.append("docs/options.md does not show the table")

# What a page says to set must exist: `LOAM_NAME=` in any page of the book.
for at, _, names in os.walk(os.path.join(root, "docs")):
    for name in sorted(names):
        if not name.endswith(".md"):
            continue
        path = os.path.join(at, name)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        wrong = " ".join(re.findall(r"<!-- misspelt: (.*?) -->", text)).split()
        for hit in re.findall(r"(?<!-D)\b(LOAM_[A-Z_]+)=", text):
            if hit not in known and hit not in wrong:
                faults.append(f"{os.path.relpath(path, root)} sets {hit}, "
                              "which is no option")

print("\n".join(faults) or f"{len(rows)} options, the same everywhere")
sys.exit(1 if faults else 0)
