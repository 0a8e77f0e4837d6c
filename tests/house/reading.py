"""What the laws read: files, the tags of ctags, and where a file belongs."""

import json
import os
import re
import subprocess

CODE = ("gc", "include", "tests", "compare")

root = "."
faults = []
skipped = []


def fault(where, what):
    faults.append(f"{where}: {what}")


def exists(path):
    return os.path.exists(os.path.join(root, path))


def read(path):
    if not exists(path):
        return ""
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return f.read()


def walk(folder, *ends):
    for at, folders, names in sorted(os.walk(os.path.join(root, folder))):
        folders[:] = [f for f in folders if f not in ("results", "__pycache__")]
        for name in sorted(names):
            if name.endswith(ends):
                yield os.path.relpath(os.path.join(at, name), root)


def sources(*folders):
    for folder in folders or CODE:
        yield from walk(folder, ".c", ".h", ".cc", ".hpp")


TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'
                   r"|'(?:\\.|[^'\\\n])*'", re.S)


def bare(text):
    """The text with comments and literals blanked, lines and columns kept."""
    return TOKEN.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def comments(text):
    return "\n".join(m[0] for m in TOKEN.finditer(text) if m[0][0] == "/")


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def includes(path):
    return re.findall(r'^\s*#\s*include\s+"([^"]+)"', read(path), re.M)


def stem(path):
    return os.path.splitext(os.path.basename(path))[0]


def module_of(path):
    """gc/os/memory_linux.c and tests/os/test_memory_fault.c are of the module
    gc/os/memory.h: the longest beginning of the name that is a header's."""
    folder, name = path.split("/")[1], stem(path)
    if path.startswith("tests/"):
        name = name[len("test_"):]
    while name:
        if exists(f"gc/{folder}/{name}.h"):
            return name
        name = name.rpartition("_")[0]
    return None


def public_of(path):
    """The header of include/ that gc/api/m.c stands behind, or None."""
    name = stem(path)
    while name:
        for header in (f"include/{name}.h", f"include/loam/{name}.h"):
            if exists(header):
                return header
        name = name.rpartition("_")[0]
    return None


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, cwd=root)


def read_tags():
    """Functions, prototypes and macros of the code, as ctags sees them."""
    try:
        made = run("ctags", "-R", "--languages=C,C++", "--map-C=+.h",
                   "--map-C++=-.h", "--kinds-C=fpdsguetx",
                   "--kinds-C++=fpdsguetx", "--fields=+neKS",
                   "--output-format=json", "-f", "-",
                   *[folder for folder in CODE if exists(folder)])
    except FileNotFoundError:
        fault("ctags", "not found; install universal-ctags")
        return []
    return [json.loads(row) for row in made.stdout.splitlines()
            if row.startswith("{")]


def functions(tags, *folders):
    for tag in tags:
        if tag["kind"] == "function" and tag["path"].startswith(folders):
            yield tag


def body(tag):
    """The bare text of a function, from its first line to its last."""
    lines = bare(read(tag["path"])).splitlines()
    return "\n".join(lines[tag["line"] - 1:tag.get("end", tag["line"])])


def floors():
    """folder -> what it may include, in order from the ground up."""
    may, below = {}, []
    for line in read("gc/floors").splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        if "=" in line:                         # stands on these alone
            name, on = (part.split() for part in line.split("="))
            may[name[0]] = {name[0], *on}
            continue
        names, _, extra = line.partition(":")
        for name in names.split():
            may[name] = {name, *below, *extra.split()}
        below += names.split()
    return may


def inside(path):
    """Whether the path is part of the library: not a shim, not the command."""
    return not path.startswith(("gc/shims/", "gc/tool/"))


def exports():
    """The names that the libraries show; a line that begins with # is not one."""
    return {line.strip() for line in read("tests/house/exports.txt").split("\n")
            if line.strip() and not line.startswith("#")}


def reach(graph, start):
    """What can be reached from `start` by one step or more."""
    seen, todo = set(), [start]
    while todo:
        fresh = graph[todo.pop()] - seen
        seen |= fresh
        todo += fresh
    return seen
