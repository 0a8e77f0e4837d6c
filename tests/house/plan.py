"""The plan of the house: floors, and what makes a module."""

import re

from reading import (exists, fault, floors, includes, inside, module_of,
                     public_of, read, bare, comments, sources, stem, walk)

PLATFORMS = ("linux", "x86_64", "aarch64")
CHAPTER = ("The question", "The answer", "Data", "Invariants", "How it works",
           "What it costs", "Concurrency", "What we did not do, and why",
           "To try", "Reading")


def check_floors(tags):
    """Nobody calls up, and wings do not know one another (gc/floors)."""
    may = floors()
    for path in sources("gc"):
        if path == "gc/all.c":
            continue
        folder = path.split("/")[1]
        if folder not in may:
            fault(path, f"the folder {folder}/ is on no floor of gc/floors")
            continue
        for name in includes(path):
            target = name.split("/")[0] if "/" in name else "include"
            target = "include" if target == "loam" else target
            if not may[folder] & {target, name}:
                fault(path, f'{folder}/ may not include "{name}"')


def check_words(tags):
    """No floor below the conductor speaks of collecting."""
    for folder in floors():
        if folder == "collect":
            return
        for path in sources(f"gc/{folder}"):
            hit = re.search(r"\bcollect(_\w+)?\b", bare(read(path)))
            if hit:
                fault(path, f"says {hit[0]}, a word of a higher floor")


def check_all(tags):
    """gc/all.c includes every source, in floor order, and nothing else."""
    order = list(floors())
    listed = includes("gc/all.c")
    for line in read("gc/all.c").splitlines():
        if not re.fullmatch(r'(//.*|#include "\w+/\w+\.c")?', line):
            fault("gc/all.c", f"holds more than includes: {line}")
    there = [path[3:] for path in walk("gc", ".c")
             if path.count("/") == 2 and inside(path)]
    for name in sorted(set(there) - set(listed)):
        fault("gc/all.c", f"lacks {name}")
    for name in sorted(set(listed) - set(there)):
        fault("gc/all.c", f"lists {name}, which is not there")
    rank = [order.index(n.split("/")[0]) for n in listed
            if n.split("/")[0] in order]
    if rank != sorted(rank):
        fault("gc/all.c", "is not in floor order")


def check_calls(tags):
    """An include is a call, and a call is an include."""
    home, words = {}, {}
    for tag in tags:
        path = tag["path"]
        if path.startswith("gc/") and path.endswith(".h"):
            words.setdefault(path[3:], set()).add(tag["name"])
            if tag["kind"] in ("function", "prototype"):
                home[tag["name"]] = path[3:]
    for path in sources("gc"):
        if path == "gc/all.c":
            continue
        said = set(re.findall(r"\w+", bare(read(path))))
        direct = set(includes(path))
        module = module_of(path)
        own = f"{path.split('/')[1]}/{module}.h"
        for name in sorted(direct - {own, "base/defs.h"}):
            if name in words and not words[name] & said:
                fault(path, f'includes "{name}" and uses nothing of it')
        known = direct | {path[3:]} | set(includes(f"gc/{own}"))
        for name in sorted(said & set(home)):
            if home[name] not in known | {own}:
                fault(path, f'uses {name} without including "{home[name]}"')


def check_pairs(tags):
    """gc/F/m.h has its source, its test tests/F/test_m.c and its chapter
    docs/design/F/m.md; and none of these is without its header."""
    promised = {tag["path"] for tag in tags if tag["kind"] == "prototype"
                and tag.get("signature") and "LOAM_API" not in tag["name"]}
    have = {(p.split("/")[1], module_of(p)) for p in walk("gc", ".c", ".S")
            if p.count("/") == 2}
    tested = {(p.split("/")[1], module_of(p)) for p in walk("tests", ".c")
              if p.count("/") == 2 and stem(p).startswith("test_")}
    for path in walk("gc", ".h"):
        _, folder, name = path.split("/")
        module = name[:-2]
        if not exists(f"docs/design/{folder}/{module}.md"):
            fault(path, f"no chapter docs/design/{folder}/{module}.md")
        if (folder, module) not in tested and inside(path):
            fault(path, f"no test tests/{folder}/test_{module}.c")
        if path in promised and (folder, module) not in have:
            fault(path, f"no source gc/{folder}/{module}.c")
    for path in walk("gc", ".c"):
        if path.count("/") == 2 and not module_of(path) and not (
                path.startswith("gc/api/") and public_of(path)) \
                and inside(path):
            fault(path, "a source without a header")
        elif path.count("/") == 2 and module_of(path) and inside(path):
            rest = stem(path)[len(module_of(path)):].strip("_")
            if rest and rest not in PLATFORMS:
                fault(path, f"a source without a header ({rest} is no "
                            "platform)")
    known = list(floors())
    for path in walk("tests", ".c"):
        folder = path.split("/")[1]
        if folder in known and folder != "api" and path.count("/") == 2 \
                and stem(path).startswith("test_") and not module_of(path):
            fault(path, "tests no module of its floor")
    for path in walk("docs/design", ".md"):
        where = path[len("docs/design/"):-3]
        if where.split("/")[0] in known and stem(path) != "index" and not (
                exists(f"gc/{where}.h")):
            fault(path, f"a chapter without its header gc/{where}.h")


def check_essays(tags):
    """A header opens with its essay, which names the chapter, and guards
    itself by its path."""
    for path in walk("gc", ".h"):
        if not path.count("/") == 2:
            continue
        _, folder, name = path.split("/")
        module = name[:-2]
        text = read(path)
        essay = re.match(r"(//.*\n)*", text)[0].splitlines()
        if not essay or not essay[0].startswith(f"// {module} — "):
            fault(path, f"does not open with `// {module} — one line`")
            continue
        end = ("// Design, alternatives and measurements: "
               f"docs/design/{folder}/{module}.md")
        if essay[-1].rstrip(".") != end:
            fault(path, f"the essay does not end with `{end}`")
        guard = f"{folder}_{module}_h".upper()
        if f"#ifndef {guard}\n#define {guard}\n" not in text:
            fault(path, f"is not guarded by {guard}")
    for path in walk("gc", ".c"):
        if not module_of(path) and not read(path).startswith("// "):
            fault(path, "opens without its essay")


# The name ends at two blanks; a name that fills its column, at the first.
STATED = re.compile(r"^//   ([A-Z]{1,3}(?:\d  |\d\d  ?))"
                    r"(\S+(?: \S+){0,2}(?=  )|\S+(?= \S))", re.M)
NEARLY = re.compile(r"^// {2,}([A-Z]{1,3}\d+) .*$", re.M)
LISTED = re.compile(r"^[-*] \*\*([A-Z]{1,3}\d+) ([^*]+?)\*\*", re.M)
CITED = re.compile(r"\b([A-Z]{1,3}\d+)\b")


def stated_in(path):
    text = read(path)
    stated = {}
    for tag, name in STATED.findall(text):
        tag = tag.strip()
        if tag in stated:
            fault(path, f"states {tag} twice")
        stated[tag] = name.strip()
    for hit in NEARLY.finditer(text):
        if hit[1] not in stated:
            fault(path, f"{hit[1]} is not written as invariants are: "
                        "`//   S1  name  sentence`")
    return stated


def check_invariants(tags):
    """Invariants are numbered in headers (`//   S1  cover  ...`), each cited by
    a test of the module and listed in its chapter; nothing cites one of the
    same letters that is not there."""
    for path in walk("gc", ".h"):
        if not path.count("/") == 2:
            continue
        _, folder, name = path.split("/")
        module = name[:-2]
        stated = stated_in(path)
        if not stated:
            continue
        letters = {re.sub(r"\d", "", tag) for tag in stated}
        tests = [t for t in sources(f"tests/{folder}")
                 if stem(t).startswith("test_") and module_of(t) == module]
        cited = set()
        for where in [*tests, *(s for s in sources(f"gc/{folder}")
                                if module_of(s) == module)]:
            for tag in CITED.findall(comments(read(where))):
                if where in tests:
                    cited.add(tag)
                if re.sub(r"\d", "", tag) in letters and tag not in stated:
                    fault(where, f"cites {tag}, which {path} does not state")
        for tag in sorted(set(stated) - cited):
            if tests:
                fault(path, f"invariant {tag} is cited by no test "
                            f"(tests/{folder}/test_{module}.c)")
        compare_chapter(path, stated, letters,
                        f"docs/design/{folder}/{module}.md")


def compare_chapter(path, stated, letters, chapter):
    if not exists(chapter):
        return
    text = read(chapter)
    listed = dict(LISTED.findall(text))
    for tag in sorted(set(stated) - set(listed)):
        fault(chapter, f"does not list {tag} of {path}")
    for tag, name in sorted(listed.items()):
        if tag not in stated:
            fault(chapter, f"lists {tag}, which {path} does not state")
        elif name.strip().rstrip(":") != stated[tag]:
            fault(chapter, f"calls {tag} {name}; {path} calls it {stated[tag]}")
    for tag in sorted(set(CITED.findall(text)) - set(listed)):
        if re.sub(r"\d", "", tag) in letters and tag not in stated:
            fault(chapter, f"cites {tag}, which {path} does not state")


def check_chapters(tags):
    """A chapter has its title and its ten parts."""
    known = set(floors())
    for path in walk("docs/design", ".md"):
        parts = path.split("/")
        if len(parts) != 4 or parts[2] not in known or stem(path) == "index":
            continue
        text = read(path)
        if not text.startswith(f"# {stem(path)}: "):
            fault(path, f"does not open with `# {stem(path)}: one line`")
        heads = re.findall(r"^## (.*)$", text, re.M)
        for part in CHAPTER:
            if not any(head.startswith(part) for head in heads):
                fault(path, f"lacks its part `{part}`")
