#!/usr/bin/env python3
"""Loam's report of leaks beside LeakSanitizer's, on the same programs.

usage: test_leaks.py LOAM CC [NAME]...   (NAME: of a case; all unless given)

Each case says in a comment what it loses.  LeakSanitizer has to find that, if
it works on this machine, and so has Loam; where the two differ on purpose the
test says why (see docs/limits.md).
"""

import collections
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
CASE = re.compile(r"^// (\w+): (\d+|some) in (\d+), (\d+)(.*)$", re.M)
LSAN = re.compile(r"^(Direct|Indirect) leak of (\d+) byte\(s\) in (\d+) obj",
                  re.M)
LOAM = re.compile(r"^loam: process \d+: leaked in all (\d+) bytes in (\d+) "
                  r"objects, direct \d+ in (\d+), indirect \d+ in (\d+)$",
                  re.M)
# Said where it may not trace its own process.
BROKEN = "LeakSanitizer has encountered a fatal error"

ALL_STACKS = "deep", "many", "thread", "vector"

Case = collections.namedtuple("Case", "name bytes objects indirect functions")
Found = collections.namedtuple("Found", "bytes objects indirect text status")


def cases():
    """What the comments of the sources say."""
    for path in sorted(HERE.glob("*.c*")):
        for name, size, objects, indirect, rest in CASE.findall(
                path.read_text(encoding="utf-8")):
            yield Case(name, None if size == "some" else int(size),
                       int(objects), int(indirect), rest.split())


def build(cc, folder, sanitized):
    """The program, or None where it cannot be linked."""
    flags = ["-g", "-O0", "-fno-builtin", "-D_GNU_SOURCE", f"-I{HERE}"]
    extra = ["-fsanitize=leak"] if sanitized else []
    parts = []
    name = "sane" if sanitized else "plain"
    for source in "leaky.c", "asked.c", "more.cc":
        part = folder / f"{name}-{source}.o"
        tool = [cc, "-std=c++17"] if source.endswith(".cc") else [cc]
        subprocess.run([*tool, *flags, *extra, "-c", HERE / source, "-o", part],
                       check=True)
        parts.append(part)
    program = folder / name
    linked = subprocess.run(
        [cc, *extra, *parts, "-o", program, "-lstdc++", "-ldl", "-pthread"],
        stderr=subprocess.DEVNULL if sanitized else None, check=not sanitized)
    return program if linked.returncode == 0 else None


def execute(words, library, **more):
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("LOAM_", "LSAN_", "ASAN_"))}
    environment.update(LEAKY_LIBRARY=str(library), **more)
    done = subprocess.run(words, env=environment, capture_output=True,
                          text=True, timeout=120, check=False)
    return done.returncode, done.stderr


def ask_lsan(program, name, library):
    status, text = execute([program, name], library,
                           LSAN_OPTIONS="fast_unwind_on_malloc=0")
    if BROKEN in text:
        return None
    sums = {"Direct": [0, 0], "Indirect": [0, 0]}
    for kind, size, objects in LSAN.findall(text):
        sums[kind][0] += int(size)
        sums[kind][1] += int(objects)
    return Found(sums["Direct"][0] + sums["Indirect"][0],
                 sums["Direct"][1] + sums["Indirect"][1],
                 sums["Indirect"][1], text, status)


def ask_loam(loam, program, name, library, *options):
    status, text = execute([loam, "run", "--mode=leakcheck", *options,
                            program, name], library)
    sums = [tuple(map(int, found)) for found in LOAM.findall(text)]
    if len(sums) > 1:
        return Found(-1, -1, -1, "more than one report\n" + text, status)
    size, objects, _, indirect = sums[0] if sums else (0, 0, 0, 0)
    return Found(size, objects, indirect, text, status)


def differs(case, found, who):
    """What is wrong with what was found; None if nothing is."""
    if case.bytes is not None and case.bytes != found.bytes:
        return f"{found.bytes} bytes instead of {case.bytes}"
    if case.objects != found.objects:
        return f"{found.objects} objects instead of {case.objects}"
    if case.indirect != found.indirect:
        return f"{found.indirect} indirect instead of {case.indirect}"
    for function in case.functions:
        if function not in found.text:
            return f"{function} is not named"
    wanted = 23 if case.objects else 0
    if case.name == "failed" and who != "LeakSanitizer":
        wanted = 3  # a status that says something already is kept
    if found.status != wanted:
        return f"status {found.status} instead of {wanted}"
    return None


def check_case(case, loam, programs, library):
    """How many complaints there are."""
    sane, plain = programs
    told = [("LeakSanitizer", ask_lsan(sane, case.name, library))
            if sane else ("LeakSanitizer", None),
            ("Loam", ask_loam(loam, plain, case.name, library))]
    if case.name in ALL_STACKS:
        told.append(("Loam with all stacks",
                     ask_loam(loam, plain, case.name, library,
                              "--stacks=all")))
    wrong = 0
    for who, found in told:
        complaint = found and differs(case, found, who)
        if complaint:
            print(f"{case.name}: {who}: {complaint}\n{found.text}")
            wrong += 1
    return wrong


def check_signal(loam, program, library):
    """A report at any time, of a program that waits, and one at its end."""
    environment = {**os.environ, "LOAM_LEAK_SIGNAL": str(int(signal.SIGUSR2)),
                   "LEAKY_LIBRARY": str(library)}
    with subprocess.Popen(
            [loam, "run", "--mode=leakcheck", program, "until_read"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGUSR2)
        told = []
        while not told or "in all" not in told[-1]:
            told.append(process.stderr.readline())
            assert told[-1] != "", told
        assert "1000 bytes in 10 objects" in told[-1], told
        assert any("+0x" in line for line in told), told
        _, rest = process.communicate("\n")
    assert process.returncode == 23 and "lose_direct" in rest, rest
    assert "1000 bytes in 10 objects" in rest, rest
    return 1


def check_reclaim(loam, program):
    """A server that forgets 300 MB stays small, and remembers what it has."""
    peak = {}
    for mode in "plain", "reclaim":
        done = subprocess.run([loam, "run", "--mode", mode, program, "server"],
                              capture_output=True, text=True, timeout=120,
                              check=False)
        assert done.returncode == 0, (mode, done)
        peak[mode] = int(done.stdout) >> 10
    assert peak["plain"] > 280 and peak["reclaim"] < 80, peak
    return 1


def main():
    loam, cc, *names = sys.argv[1:]
    wrong = count = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        library = folder / "library.so"
        subprocess.run([cc, "-g", "-O0", "-fno-builtin", "-shared", "-fPIC",
                        HERE / "library.c", "-o", library], check=True)
        programs = build(cc, folder, True), build(cc, folder, False)
        for case in cases():
            if not names or case.name in names:
                wrong += check_case(case, loam, programs, library)
                count += 1
        if not names:
            count += check_signal(loam, programs[1], library)
            count += check_reclaim(loam, programs[1])
    print(f"{count} cases, {wrong} complaints")
    sys.exit(1 if wrong else 0)


main()
