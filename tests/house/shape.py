"""The shape of the code, and the words that have no place in it."""

import os
import re

import reading
from reading import (CODE, TOKEN, bare, body, exists, exports, fault,
                     functions, inside, line_of, module_of, reach, read, run,
                     sources, stem, walk)

COLUMNS, FUNCTION_LINES, FILE_LINES = 80, 70, 600
PARAMETERS, NESTING = 6, 4


def check_names_of_files(tags):
    """No two files have one name, and no two modules; worlds of their own are
    include/, whose names are the program's words (a cache is not heap/cache),
    and compare/, whose files are named after benchmarks and collectors."""
    for world in (("gc", "tests"), ("include",), ("compare",)):
        seen = {}
        for path in [path for folder in world for path in walk(folder, "")]:
            name = os.path.basename(path)
            if name in ("CMakeLists.txt", "README.md", "run",
                    "list"):
                continue
            if name in seen:
                fault(path, f"has the name of {seen[name]}")
            seen[name] = path
    modules = {}
    for path in walk("gc", ".h"):
        if stem(path) in modules:
            fault(path, f"is a module like {modules[stem(path)]}")
        modules[stem(path)] = path


def check_shape(tags):
    """A page is 80 columns, a sitting is 600 lines; // in gc/ and tests/."""
    for path in [*sources(), *walk("gc", ".def", ".S"), *walk("tests", ".S")]:
        lines = read(path).splitlines()
        if len(lines) > FILE_LINES:
            fault(path, f"{len(lines)} lines; {FILE_LINES} at most")
        for at, line in enumerate(lines, 1):
            if len(line) > COLUMNS:
                fault(f"{path}:{at}", f"{len(line)} columns; {COLUMNS} at most")
            if "\t" in line or line != line.rstrip():
                fault(f"{path}:{at}", "a tab or a trailing blank")
        if path.startswith(("gc/", "tests/")) and any(
                m[0].startswith("/*") for m in TOKEN.finditer(read(path))):
            fault(path, "a /* comment */; // inside gc/ and tests/")


def depth_of(text):
    """How deep the blocks of a function nest; initialisers do not count."""
    deepest, stack = 0, []
    for at, char in enumerate(text):
        if char == "{":
            stack.append(at)
        elif char == "}" and stack:
            start = stack.pop()
            inner = text[start + 1:at]
            if ";" in inner or not inner.strip():
                deepest = max(deepest, len(stack))
    return deepest


def check_functions(tags):
    """A screen is a function: 70 lines, 6 parameters, 4 deep."""
    for tag in functions(tags, *CODE):
        where = f"{tag['path']}:{tag['line']}"
        lines = tag.get("end", tag["line"]) - tag["line"] + 1
        if lines > FUNCTION_LINES:
            fault(where, f"{tag['name']}() has {lines} lines; "
                         f"{FUNCTION_LINES} at most")
        inner = re.sub(r"\([^()]*\)", "", tag.get("signature", "()")[1:-1])
        if inner.count(",") + 1 > PARAMETERS:
            fault(where, f"{tag['name']}() has {inner.count(',') + 1} "
                         f"parameters; {PARAMETERS} at most")
        text = body(tag)
        deep = depth_of(text)
        if deep > NESTING:
            fault(where, f"{tag['name']}() nests {deep} deep; "
                         f"{NESTING} at most")


def check_names(tags):
    """Every function of gc/ bears the name of its module."""
    for tag in functions(tags, "gc/"):
        path = tag["path"]
        if not inside(path) or path.count("/") != 2:
            continue
        module = module_of(path) or stem(path)
        api = path.startswith("gc/api/")
        if tag["name"] != module and not tag["name"].startswith(
                (f"{module}_",) + ("loam_",) * api):
            fault(f"{path}:{tag['line']}",
                  f"{tag['name']}() does not bear its module's name")


def check_recursion(tags):
    """No function of trace/ or rc/ reaches itself."""
    for folder in ("gc/trace/", "gc/rc/"):
        own = {tag["name"]: tag for tag in functions(tags, folder)}
        graph = {name: set(re.findall(r"\b(\w+)\s*\(",
                                      body(tag).partition("{")[2])) & set(own)
                 for name, tag in own.items()}
        for name in sorted(graph):
            if name in reach(graph, name):
                fault(own[name]["path"], f"{name}() reaches itself")


def check_format(tags):
    """The code is as clang-format 14 would write it."""
    try:
        version = run("clang-format", "--version").stdout
    except FileNotFoundError:
        version = "none"
    if "version 14." not in version:
        reading.skipped.append("clang-format 14 is missing: the layout of "
                               "the code was NOT checked")
        return
    paths = list(sources())
    if not paths:
        return
    said = run("clang-format", "--dry-run", "-Werror", *paths).stderr
    for path in sorted(set(re.findall(r"^([^:\s]+):\d+:\d+: error", said,
                                      re.M))):
        fault(path, "is not as clang-format would write it")


MALLOC = r"malloc|calloc|realloc|reallocarray|free|strdup|strndup|" \
         r"aligned_alloc|posix_memalign|memalign"
STDIO = r"v?f?printf|v?s?n?printf|v?asprintf|puts|fputs|putchar|fopen|" \
        r"fdopen|fread|fwrite|fclose|perror|getline|scanf|sscanf"
SYSTEM = r"errno|mmap|munmap|mprotect|madvise|mremap|sbrk|pthread_\w+|" \
         r"sigaction|syscall|environ"

BANNED = [  # (where it is banned, pattern, why)
    (r"gc/(?!shims/|tool/)", rf"(?<![\w.>])({MALLOC})\s*\(",
     "the collector never calls malloc: it may be malloc"),
    (r"gc/(?!tool/|shims/malloc_(tell|begin|leak))", rf"\b({STDIO})\s*\(|<stdio\.h>",
     "stdio allocates and locks: base/text and os/output"),
    (r"gc/(?!os/|shims/|tool/)", rf"\b({SYSTEM})\b",
     "the system is spoken to in gc/os/ only"),
    (r"gc/(?!tool/|shims/malloc_begin)", r"\b(getenv|secure_getenv)\b",
     "the environment is read by os/environment for api/options"),
    (r"gc/(?!tool/)", r"\b(setjmp|longjmp|sigsetjmp)\b|<setjmp\.h>",
     "registers are spilled by os/stack"),
    (r"gc/", r"\balloca\b", "the stack is not ours to measure out"),
    (r"gc/(?!os/|shims/|tool/)",
     r"#\s*(if|ifdef|ifndef|elif)\b.*\b(__linux__|_WIN32|__APPLE__|"
     r"__x86_64__|__aarch64__|__GLIBC__)", "platforms differ in gc/os/ only"),
    (r"gc/(?!base/)", r"(?<!_)\bassert\s*\(",
     "CHECK, ASSERT or VERIFY (base/check.h)"),
    (r"gc/.*\.c$", r"^extern\b", "declare it in the header of its module"),
    (r"gc/", r"\btypedef\s+(struct|union|enum)\b", "struct x, not a typedef"),
]
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")


def check_banned(tags):
    """No malloc, stdio, errno, setjmp, alloca, platform tests and the like
    where they do not belong; nothing unfinished anywhere."""
    for path in sources("gc"):
        text = bare(read(path))
        raw = read(path)
        for where, pattern, why in BANNED:
            if re.match(where, path):
                for hit in re.finditer(pattern, text, re.M):
                    at = line_of(raw, hit.start())
                    fault(f"{path}:{at}", f"{hit[0].strip()}: {why}")
    for path in [p for folder in (*CODE, "docs") if exists(folder)
                 for p in walk(folder, ".c", ".h", ".def", ".S", ".md", ".py",
                               ".txt")] + ["README.md"]:
        hit = UNFINISHED.search(read(path))
        if hit:
            at = line_of(read(path), hit.start())
            fault(f"{path}:{at}", f"{hit[0]}: finish it, or file it")


def check_options(tags):
    """What the book calls LOAM_SOMETHING exists: an option of
    gc/api/options.def, a name of the code, or a setting of the build.  A word
    that is wrong on purpose stands in a comment <!-- misspelt: ... -->."""
    known = set(re.findall(r"\bLOAM_\w+", read("gc/api/options.def")))
    known |= set(re.findall(r"\bLOAM_\w+", read("CMakeLists.txt")))
    known |= {tag["name"] for tag in tags
              if tag["kind"] in ("macro", "enumerator")}
    for path in [*walk("docs", ".md"), "README.md"]:
        text = read(path)
        meant = set(re.findall(r"\w+", " ".join(
            re.findall(r"<!-- misspelt: (.*?) -->", text))))
        for name in sorted(set(re.findall(r"\bLOAM_[A-Z]\w*", text))):
            if name not in known | meant and name.rstrip("_") == name:
                fault(path, f"{name} is no option, macro or setting")


def check_exported_words(tags):
    """tests/house/exports.txt is what the public headers declare, what the
    door shows to shims, and what shims/wrap stands in front of."""
    wanted = exports()
    said = set()
    for path in [*walk("include", ".h"), "gc/api/door.h"]:
        text = re.sub(r"#\s*define.*(\\\n.*)*", "", bare(read(path)))
        said |= set(re.findall(r"LOAM_API\b[^;(]*?\b(loam_\w+)\s*\(", text))
    said |= set(re.findall(r"^WRAPPED\((\w+)\)", read("gc/shims/wrap.def"),
                           re.M))
    for name in sorted(said - wanted):
        fault("tests/house/exports.txt", f"lacks {name} of include/")
    for name in sorted(wanted - said):
        fault("tests/house/exports.txt", f"{name} is in no public header")
