"""Static analyzers see who owns a counted object: what is not released, or
once too often, is told, and right programs are not.  The header is read by C++
compilers, too.  Usage: test_analyze.py INCLUDE"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HEAD = """
#include "loam/rc.h"
struct node { struct node *next; };
static LOAM_TYPE(node_type, struct node, LOAM_OWNS(struct node, next));
"""

# What must be told of: a word of the warning, or None for silence.
PROGRAMS = {
    "leak": ("eak", """
int leak(int n) {
    struct node *a = loam_new(&node_type);
    return a == NULL ? 0 : n;
}"""),
    "twice": ("release", """
void twice(void) {
    struct node *a = loam_new(&node_type);
    loam_release(a);
    loam_release(a);
}"""),
    "retained": ("eak", """
void retained(struct node *a) {
    struct node *b = loam_retain(a);
    (void)b;
}"""),
    "right": (None, """
int right(int n) {
    struct node *a = loam_new(&node_type);
    if (a == NULL) {
        return 0;
    }
    a->next = loam_new(&node_type);
    loam_assign(&a->next, a);
    loam_clear(&a->next);
    struct node *b = loam_retain(a);
    loam_release(b);
    loam_release(a);
    return n;
}"""),
    "scoped": (None, """
int scoped(int n) {
    loam_auto(struct node) a = loam_new(&node_type);
    return a == NULL ? 0 : n;
}"""),
}

ANALYZERS = {
    "gcc": ["-fanalyzer", "-c", "-o", "/dev/null"],
    "clang": ["--analyze", "-o", "/dev/null", "-Xclang", "-analyzer-config",
              "-Xclang", "unix.DynamicMemoryModeling:Optimistic=true"],
}

CXX = """
#include "loam/rc.h"
struct node { struct node *next; };
static const uint32_t slots[] = {0};
static loam_type node_type = {"node",  sizeof(node), 0, 1, slots,
                              nullptr, nullptr,      nullptr, 0};
int main() {
    void *a = loam_new(&node_type);
    loam_scope {
        loam_autorelease(loam_retain(a));
    }
    loam_release(a);
}
"""


def run(command):
    result = subprocess.run(command, capture_output=True, text=True,
                            timeout=100, check=False)
    return result.returncode, result.stderr


def knows_owners(compiler):
    """gcc pairs functions from 11 on."""
    text = subprocess.run([compiler, "-dumpversion"], capture_output=True,
                          text=True, check=False).stdout
    return int(text.split(".")[0]) >= 11


def analyze(compiler, include, folder):
    faults = []
    for name, (word, text) in PROGRAMS.items():
        if name == "scoped" and compiler == "clang":
            continue  # which does not follow the cleanup attribute
        path = Path(folder) / f"{name}.c"
        path.write_text(HEAD + text + "\n")
        code, said = run([compiler, "-std=c11", "-DLOAM_ANALYZE",
                          f"-I{include}", *ANALYZERS[compiler], str(path)])
        heard = "warning" in said and (word is None or word in said)
        if code != 0 or heard != (word is not None):
            faults.append(f"{compiler}: {name}: {said or 'silence'}")
        # Without the word nothing is told, rightly or wrongly.
        code, said = run([compiler, "-std=c11", f"-I{include}",
                          *ANALYZERS[compiler], str(path)])
        if code != 0 or "warning" in said:
            faults.append(f"{compiler}: {name}, no LOAM_ANALYZE: {said}")
    return faults


def compile_cxx(compiler, include, folder):
    path = Path(folder) / "counted.cpp"
    path.write_text(CXX)
    code, said = run([compiler, "-std=c++11", "-Wall", "-Wextra", "-Werror",
                      f"-I{include}", "-fsyntax-only", str(path)])
    return [] if code == 0 else [f"{compiler}: {said}"]


def main():
    include = sys.argv[1]
    faults, tried = [], []
    with tempfile.TemporaryDirectory() as folder:
        for compiler in ANALYZERS:
            if shutil.which(compiler) and knows_owners(compiler):
                tried.append(compiler)
                faults += analyze(compiler, include, folder)
        for compiler in ("g++", "clang++"):
            if shutil.which(compiler):
                tried.append(compiler)
                faults += compile_cxx(compiler, include, folder)
    print("tried:", ", ".join(tried) or "nothing")
    for fault in faults:
        print(fault)
    if faults:
        sys.exit(1)
    sys.exit(0 if tried else 77)


if __name__ == "__main__":
    main()
