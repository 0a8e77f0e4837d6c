#!/usr/bin/env python3
"""The README's program, built outside the tree from the installed copy.

    test_install.py SOURCE_DIR BUILD_DIR CC

Installs into a scratch prefix, moves it (nothing in it may name the place it
was made for), and then builds the first C program of README.md in every way
that a stranger would: find_package and pkg-config, static and shared, and as a
program without any shared library.  Each must print what README.md says."""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

source, build, cc = sys.argv[1], sys.argv[2], sys.argv[3]

PROJECT = """cmake_minimum_required(VERSION 3.21)
project(stranger LANGUAGES C)
find_package(loam 0.1 REQUIRED)
foreach(kind loam static shared)
  add_executable(program_${kind} program.c)
  target_link_libraries(program_${kind} PRIVATE loam::${kind})
endforeach()
"""


def run(*command, at=None, **environment):
    made = subprocess.run(command, cwd=at, env={**os.environ, **environment},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if made.returncode:
        sys.exit(f"failed: {' '.join(command)}\n{made.stdout}")
    return made.stdout


def require(condition, what):
    if not condition:
        sys.exit(what)


def example():
    """The first ```c block of README.md, and what it is said to print."""
    with open(os.path.join(source, "README.md"), encoding="utf-8") as f:
        text = f.read()
    program = re.search(r"^```c\n(.*?)^```$", text, re.M | re.S)
    require(program, "README.md has no ```c program")
    prints = re.search(r"\bprints `([^`]+)`", text[program.end():])
    require(prints, "README.md does not say `prints `...`` after its program")
    return program[1], prints[1]


def build_with_make(scratch):
    """From nothing, by the generator that a bare `cmake -B build` takes."""
    if not shutil.which("make"):
        print("*** make is missing: a plain build was NOT tried ***")
        return
    at = os.path.join(scratch, "by_make")
    run("cmake", "-G", "Unix Makefiles", "-S", source, "-B", at,
        f"-DCMAKE_C_COMPILER={cc}")
    run("cmake", "--build", at, "-j2")


def install(scratch):
    """Installs, moves the prefix, and says where it is now."""
    first = os.path.join(scratch, "first")
    run("cmake", "--install", build, "--prefix", first)
    there = os.path.join(scratch, "moved", "there")
    os.makedirs(os.path.dirname(there))
    shutil.move(first, there)
    for path in glob.glob(f"{there}/**", recursive=True):
        if os.path.isfile(path) and path.endswith((".pc", ".cmake", ".h",
                                                  ".hpp")):
            with open(path, encoding="utf-8") as f:
                text = f.read()
            for place in (first, source, build):
                require(place not in text, f"{path} names {place}")
    return there


def find(prefix, pattern):
    found = glob.glob(f"{prefix}/**/{pattern}", recursive=True)
    require(found, f"{pattern} is not installed")
    return found[0]


def check_files(prefix):
    """What a package has to hold, and the name the linker will look for."""
    for header in [path for end in ("h", "hpp") for path in glob.glob(
            f"{source}/include/**/*.{end}", recursive=True)]:
        find(prefix, "include/" + os.path.relpath(header, f"{source}/include"))
    library = find(prefix, "libloam.so.0")
    dynamic = run("readelf", "-d", library)
    require("[libloam.so.0]" in dynamic, "the SONAME is not libloam.so.0")
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
    others = [n for n in needed if not re.match(r"libc\.|ld-linux", n)]
    require(not others, f"libloam.so needs {others}, not only libc")
    find(prefix, "libloam.so")
    find(prefix, "libloam.a")
    if glob.glob(f"{build}/docs/loam.7"):
        find(prefix, "man7/loam.7")
    return os.path.dirname(library)


def needs_loam(program):
    return "libloam.so" in run("readelf", "-d", program)


def with_cmake(scratch, prefix, prints):
    at = os.path.join(scratch, "by_cmake")
    run("cmake", "-S", scratch, "-B", at, f"-DCMAKE_PREFIX_PATH={prefix}",
        f"-DCMAKE_C_COMPILER={cc}", "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", at)
    for kind in ("loam", "static", "shared"):
        said = run(f"{at}/program_{kind}")
        require(said.strip() == prints, f"loam::{kind} printed {said}")
    require(not needs_loam(f"{at}/program_static"), "loam::static is shared")
    require(needs_loam(f"{at}/program_shared"), "loam::shared is not")


def with_pkg_config(scratch, prefix, libraries, prints):
    if not shutil.which("pkg-config"):
        print("*** pkg-config is missing: loam.pc was NOT tried ***")
        return
    where = os.path.dirname(find(prefix, "loam.pc"))

    def flags(*words):
        return run("pkg-config", *words, "loam", PKG_CONFIG_PATH=where).split()

    require(flags("--modversion") == ["0.1.0"], "loam.pc has another version")
    program = os.path.join(scratch, "by_pkg_config")
    file = os.path.join(scratch, "program.c")
    for how, words, needed in (([], [], True), (["-static"], ["--static"], False)):
        run(cc, "-O2", *how, file, "-o", program,
            *flags("--cflags", "--libs", *words))
        said = run(program, LD_LIBRARY_PATH=libraries)
        require(said.strip() == prints, f"by pkg-config {how}: {said}")
        require(needs_loam(program) == needed, f"pkg-config {how}: wrong kind")
    # The archive beside a shared libc, as many programs are linked.
    run(cc, "-O2", file, "-o", program, *flags("--cflags"),
        find(prefix, "libloam.a"))
    require(run(program).strip() == prints, "the archive by name failed")


SERVED = """#include <stdio.h>
#include <stdlib.h>
#include <malloc.h>
int main(void) {
    void *p = malloc(100);
    printf("%d\\n", malloc_usable_size(p) == 112);
    free(p);
}
"""


def with_malloc(scratch, prefix, libraries):
    """The command, and the three ways to malloc's names."""
    file = os.path.join(scratch, "served.c")
    with open(file, "w", encoding="utf-8") as f:
        f.write(SERVED)
    program = os.path.join(scratch, "served")
    run(cc, file, "-o", program)
    require(run(program).strip() == "0", "glibc's sizes are Loam's")
    require(run(find(prefix, "bin/loam"), "run", program).strip() == "1",
            "the installed command does not preload")
    run(cc, file, "-o", program, f"-L{libraries}", "-Wl,--no-as-needed",
        "-lloam_malloc", f"-Wl,-rpath,{libraries}")
    require(run(program).strip() == "1", "linked, it is not Loam's malloc")
    run(cc, find(prefix, "loam_malloc.o"), file, "-o", program)
    require(run(program).strip() == "1", "put first, it is not Loam's malloc")


def with_other_languages(scratch, prefix):
    """The headers are C++ too, and nothing a strict C compiler objects to."""
    file = os.path.join(scratch, "headers.c")
    with open(file, "w", encoding="utf-8") as f:
        f.write("#include <loam.h>\n#include <loam/typed.h>\n"
                "#include <loam/weak.h>\n#include <loam/heaps.h>\n"
                "#include <loam/threads.h>\n#include <loam/rc.h>\n"
                "#if __cplusplus\n#include <loam/rc.hpp>\n#endif\n"
                "int main(void) { return 0; }\n")
    strict = ["-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-pedantic",
              f"-I{prefix}/include"]
    for standard in ("c99", "c11", "c17"):
        run(cc, f"-std={standard}", *strict, file)
    if shutil.which("c++"):
        for standard in ("c++11", "c++17"):
            run("c++", f"-std={standard}", "-x", "c++", *strict, file)


def main():
    program, prints = example()
    with tempfile.TemporaryDirectory(prefix="loam-install-") as scratch:
        for name, text in (("program.c", program),
                           ("CMakeLists.txt", PROJECT)):
            with open(os.path.join(scratch, name), "w", encoding="utf-8") as f:
                f.write(text)
        build_with_make(scratch)
        prefix = install(scratch)
        libraries = check_files(prefix)
        with_other_languages(scratch, prefix)
        with_cmake(scratch, prefix, prints)
        with_pkg_config(scratch, prefix, libraries, prints)
        with_malloc(scratch, prefix, libraries)
    print("installed, moved, and used in every way")


main()
