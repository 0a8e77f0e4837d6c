"""What the compiler and the linker see."""

import os
import re

from reading import exports, fault, module_of, read, run, stem, walk
from shape import MALLOC, STDIO, SYSTEM


def check_alone(cc):
    """Every header can be compiled alone."""
    for path in [*walk("gc", ".h"), *walk("include", ".h", ".hpp")]:
        how = ["-std=c11", "-x", "c"]
        if path.endswith(".hpp"):
            how = ["-std=c++11", "-x", "c++"]
        made = run(cc, "-D_GNU_SOURCE", "-fsyntax-only", "-w", "-Igc",
                   "-Iinclude", *how, path)
        if made.returncode:
            fault(path, "does not compile alone: "
                        + made.stderr.strip().splitlines()[0])


def nm(*command):
    """nm's rows as (kind, name, section)."""
    made = run("nm", "-f", "sysv", *command)
    for row in made.stdout.splitlines():
        cells = [cell.strip() for cell in row.split("|")]
        if len(cells) == 7 and cells[0] and cells[2]:
            yield cells[2], cells[0], cells[6]


def check_exports(libraries):
    """A library shows exactly the names that exports.txt lists."""
    wanted = exports()
    for library in libraries:
        how = "-g" if library.endswith(".a") else "-D"
        found = {re.sub("@.*", "", name)
                 for kind, name, _ in nm(how, "--defined-only", library)
                 if kind != "A"}
        where = os.path.basename(library)
        for name in sorted(found - wanted):
            fault(where, f"exports {name}, which exports.txt lacks")
        for name in sorted(wanted - found):
            fault(where, f"does not export {name}")


def modules_of_objects(objects):
    """object file -> (folder, module)."""
    homes = {stem(path): (path.split("/")[1], module_of(path) or stem(path))
             for path in walk("gc", ".c", ".S")}
    return {path: homes.get(os.path.basename(path).split(".")[0],
                            ("", os.path.basename(path).split(".")[0]))
            for path in objects}


def is_state(section):
    return bool(re.match(r"\.?(t?data|t?bss|COM)", section.lstrip("*"))) \
        and not section.startswith(".data.rel.ro")


def check_links(objects):
    """Who calls whom, by the linker: no circle of modules, no banned call,
    every global name bears its module's word, and no module below api/ owns
    state that tests/house/state.txt does not allow."""
    home, wants, owns = {}, {}, set()
    banned = re.compile(rf"(__)?({MALLOC}|{STDIO}|v?printf\w*|"
                        r"getenv|_?setjmp|siglongjmp|longjmp|alloca)(_chk)?")
    system = re.compile(rf"(__errno_location|{SYSTEM}|__environ)")
    for path, (folder, module) in modules_of_objects(objects).items():
        wants.setdefault(module, set())
        for kind, name, section in nm(path):
            if kind in "Uw":
                wants[module].add(name)
                if banned.fullmatch(name) or (folder != "os" and
                                              system.fullmatch(name)):
                    fault(f"{folder}/{module}", f"calls {name}")
                continue
            name = re.sub(r"\.\d+$", "", name)
            if kind.isupper() and not name.startswith("__"):
                home[name] = module
                word = (f"{module}_",) + ("loam_",) * (folder == "api")
                if name != module and not name.startswith(word):
                    fault(f"{folder}/{module}",
                          f"{name} does not bear its module's name")
            if folder != "api" and is_state(section) and name[0] not in "._":
                owns.add((f"{folder}/{module}", name))
    check_circles(home, wants)
    check_state(owns)


def check_circles(home, wants):
    """The shortest way from a module round to itself, told link by link."""
    graph = {}
    for module, names in wants.items():
        graph[module] = {home[n]: n for n in sorted(names)
                         if n in home and home[n] != module}
    told = set()
    for module in sorted(graph):
        ways, seen = [[module]], set()
        while ways and not (len(ways[0]) > 1 and ways[0][-1] == module):
            way = ways.pop(0)
            for there in sorted(set(graph.get(way[-1], {})) - seen):
                seen.add(there)
                ways.append([*way, there])
        if ways and not told & set(ways[0]):
            told |= set(ways[0])
            links = [f"{a} calls {graph[a][b]}"
                     for a, b in zip(ways[0], ways[0][1:])]
            fault(module, "stands on a circle of calls: " + ", ".join(links))


def check_state(owns):
    allowed = {}
    for line in read("tests/house/state.txt").splitlines():
        if line.strip() and not line.startswith("#"):
            where, name, *why = line.split()
            allowed[(where, name)] = why
            if len(why) < 3:
                fault("tests/house/state.txt", f"{name}: no reason")
    for where, name in sorted(owns - set(allowed)):
        fault(where, f"{name} is process-wide state (tests/house/state.txt)")
    for where, name in sorted(set(allowed) - owns):
        fault("tests/house/state.txt", f"{where} has no state {name}")
