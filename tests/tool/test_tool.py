#!/usr/bin/env python3
"""The command: loam run, loam doctor.  Arguments: the command, a C compiler."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

COMMAND, COMPILER = sys.argv[1:3]
PROGRAM = "int main(void) { return 3; }\n"
OWN = "#include <stddef.h>\nvoid *malloc(size_t n) { (void)n; return NULL; }\n"


def run(*words, shell=None, **settings):
    environment = {**os.environ, **settings}
    done = subprocess.run(shell or [COMMAND, *words], capture_output=True,
                          text=True, env=environment, timeout=60,
                          shell=shell is not None)
    return done.returncode, done.stdout, done.stderr


def build(folder, name, text, *options):
    source = folder / f"{name}.c"
    source.write_text(text)
    path = folder / name
    done = subprocess.run([COMPILER, "-o", path, source, *options],
                          capture_output=True, text=True)
    return str(path) if done.returncode == 0 else None


def check_becomes(folder):
    """RN1, RN3: status, output, signals, what was preloaded before."""
    program = build(folder, "three", PROGRAM)
    assert run("run", program)[0] == 3
    assert run("run", "--", "sh", "-c", "exit 42")[0] == 42
    assert run("run", "sh", "-c", "kill -9 $$")[0] == -9
    code, out, err = run("run", "--verify", "sh", "-c", "echo $0", "word")
    assert (code, out) == (0, "word\n"), out
    assert "active, 20 of 20" in err and "; mode quarantine\n" in err, err
    err = run("run", "--verify", "--mode", "plain", "true")[2]
    assert "; mode plain\n" in err, err
    code, out, err = run("run", "env", LD_PRELOAD="/nowhere/libother.so")
    assert "libloam_malloc.so.0:/nowhere/libother.so\n" in out, out
    code, out, err = run("run", "--stats", "true")
    assert "at exit" in err, err


def check_follow():
    both = run("run", "--verify", "sh", "-c", "/bin/true; /bin/true; :")[2]
    assert both.count("active") == 3, both
    one = run("run", "--verify", "--no-follow", "sh", "-c",
              "/bin/true; echo [$LD_PRELOAD]")
    assert one[2].count("active") == 1 and one[1] == "[]\n", one


def check_no_proc():
    """RN1: the library is found from a command that cannot ask /proc."""
    bare = "unshare -rm sh -c 'mount -t tmpfs none /proc && {}'"
    if run(shell=bare.format("true"))[0] != 0:
        return  # no namespaces here
    err = run(shell=bare.format(f"{COMMAND} run --verify true"))[2]
    assert "active, 20 of 20" in err, err


def check_refused(folder):
    """RN2: each with a reason; PG2: a file that is cut off anywhere."""
    assert run("run")[0] == 125
    assert run("run", "--nonsense", "true")[0] == 125
    assert run("run", "no-such-program")[0] == 127
    text = folder / "text"
    text.write_text("nothing\n")
    text.chmod(0o755)
    assert run("run", str(text))[0] == 125
    script = folder / "script"
    script.write_text("#!/nowhere/at-all\n")
    script.chmod(0o755)
    assert run("run", str(script))[0] == 127
    static = build(folder, "static", PROGRAM, "-static")
    if static:
        code, _, err = run("run", static)
        assert code == 125 and "statically" in err and "loam_malloc_static.o" in err
        assert run("run", "--force", static)[0] == 3
    sanitized = build(folder, "sane", PROGRAM, "-fsanitize=address")
    if sanitized:
        code, _, err = run("run", sanitized)
        assert code == 125 and "sanitizer" in err, err
    own = build(folder, "own", OWN + PROGRAM, "-rdynamic")
    code, _, err = run("run", own)
    assert code == 125 and "malloc of its own" in err, err
    foreign = pathlib.Path(own).read_bytes()
    cut = folder / "cut"
    for length in [*range(1, 1200, 7), *range(1200, len(foreign), 997)]:
        cut.write_bytes(foreign[:length])
        cut.chmod(0o755)
        assert run("run", "--dry-run", str(cut))[0] in (0, 125), length
    for at in range(16, 400, 3):  # and one whose numbers lie
        wrong = bytearray(foreign)
        wrong[at:at + 8] = b"\xff\xfe\xfd\xfc\xfb\xfa\x7f\xff"
        cut.write_bytes(wrong)
        cut.chmod(0o755)
        assert run("run", "--dry-run", str(cut))[0] in (0, 125), at


def check_scripts(folder):
    for first in ("#!/bin/sh", "#!/usr/bin/env sh", "#!/usr/bin/env -S A=1 sh",
                  "#!/usr/bin/env -S -u HOME -C / A=1 sh -e"):
        script = folder / "script"
        script.write_text(first + "\necho $1\n")
        script.chmod(0o755)
        code, out, err = run("run", "--verify", str(script), "x")
        assert (code, out) == (0, "x\n") and "active" in err, (first, err)


LEAKY = """
#include <stdlib.h>
#include <string.h>
struct node { struct node *next; char rest[40]; };
void *volatile sink;
char *volatile middle;
void lose(void) {
    for (int i = 0; i < 10; i++) memset(sink = malloc(100), 1, 100);
    struct node *one = malloc(sizeof *one);
    sink = one;
    one->next = malloc(sizeof *one);
    sink = realloc(malloc(10), 9000);
    sink = NULL;
}
static __attribute__((noinline)) void clean(void) {
    char over[32000];
    memset(over, 0, sizeof over);
    sink = over;
    sink = NULL;
}
int main(void) {
    middle = (char *)malloc(500) + 300;
    lose();
    clean();
    return 0;
}
"""


def check_leaks(folder):
    """What LeakSanitizer finds in it; lines; status; suppressions; refusals."""
    program = build(folder, "leaky", LEAKY, "-g", "-O0")
    mode = "run", "--mode=leakcheck"
    code, out, err = run(*mode, "--stacks", "all", program)
    total = [line for line in err.splitlines() if "leaked in all" in line]
    assert code == 23 and len(total) == 1, (code, err)
    assert "10096 bytes in 13 objects" in total[0], err
    assert "direct 10048 in 12, indirect 48 in 1" in total[0], err
    assert "lose" in err and "leaky.c:" in err, err
    sane = build(folder, "leaky-sane", LEAKY, "-O0", "-fsanitize=leak")
    if sane:
        told = run(shell=sane)[2]
        assert ("10096 byte(s) leaked in 13 allocation(s)" in told
                or "LeakSanitizer has encountered" in told), told
    assert run(*mode, program, LOAM_LEAK_STATUS="7")[0] == 7
    assert run(*mode, program, LOAM_LEAK_STATUS="0")[0] == 0
    for gap in 48, 64, 96, 112, 192, 256, 320, 384:
        lost = build(folder, "lost", LOST, "-g", "-O1", f"-DGAP={gap}")
        _, _, err = run(*mode, lost)
        assert "leaked in all 210 bytes in 20 objects" in err, (gap, err)
    raw = run(*mode, program, LOAM_TOOL="/nowhere")
    assert raw[0] == 23 and "leaked in all" in raw[2], raw
    calm = folder / "calm"
    calm.write_text("# all of it\nleak:lo*e\n")
    code, out, err = run(*mode, "--suppressions", str(calm), program)
    assert code == 0 and "leaked" not in err, err
    calm.write_text("leak:^nothing$\n")
    assert run(*mode, "--suppressions", str(calm), program)[0] == 23
    assert run(*mode, "true")[0] == 0
    code, _, err = run("run", "--mode", "leekcheck", "true")
    assert code == 125 and "leakcheck" in err, err
    _, _, err = run(*mode, "true", LOAM_SUPPRESSIONS="/no/such/file")
    assert "LOAM_SUPPRESSIONS=/no/such/file: No such file" in err, err
    _, _, err = run(*mode, "true", LOAM_LEAK_SIGNAL="9")
    assert "LOAM_LEAK_SIGNAL=9: no program hears" in err, err
    _, _, err = run(*mode, "true", LOAM_LEAK_SIGNAL="33")
    assert "LOAM_LEAK_SIGNAL=33: no program hears" in err, err
    _, _, err = run(*mode, "true", LOAM_SUPPRESSIONS="/")
    assert "LOAM_SUPPRESSIONS=/: Is a directory" in err, err
    # A program that faults ends, whatever asks for a report.
    code, _, err = run(*mode, "sh", "-c", "kill -SEGV $$",
                       LOAM_LEAK_SIGNAL="11")
    assert "LOAM_LEAK_SIGNAL=11: a fault is no request" in err, err
    assert code in (-11, 139), code
    assert run("run", "--stacks=some", "true")[0] == 125
    assert run("run", "--suppressions", "/no/such/file", "true")[0] == 125
    code, _, err = run("run", "--suppressions", "/", "true")
    assert code == 125 and "Is a directory" in err, err
    assert run("run", "--mode")[0] == 125
    for name in "plain", "quarantine", "reclaim":
        assert run("run", "--mode", name, program)[0] == 0, name


# Words of what is lost are left where frames of the search have gaps.
LOST = """
#include <stdlib.h>
__attribute__((noinline)) static void *lose(int bytes) {
    return malloc(bytes);
}
__attribute__((noinline)) static void take(int bytes) {
    void *volatile p = lose(bytes);
    p = 0;
    __asm__ volatile("");
}
__attribute__((noinline)) static void leak(int bytes) {
    volatile char gap[GAP];
    gap[0] = 0;
    take(bytes);
    gap[1] = 0;
}
int main(void) {
    for (int i = 1; i <= 20; i++) {
        leak(i);
    }
    return 0;
}
"""

CHURN = """
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static char *volatile kept[1000];
static void *work(void *data) {
    for (int i = 0; i < 300000; i++) {
        char *volatile p = malloc((size_t)(i % 2000) + 1);
        p[0] = 1;
        free(p);
    }
    return data;
}
int main(int count, char **words) {
    pthread_t threads[3];
    for (int i = 0; i < 1000; i++) kept[i] = strdup("kept");
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], 0, work, 0);
    pid_t child = fork();
    if (child == 0) {
        work(0);
        exit(7);
    }
    int status = 0;
    waitpid(child, &status, 0);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
    char *p = malloc(3000000);
    memset(p, 1, 3000000);
    size_t before = mallinfo2().uordblks;
    free(p);
    struct mallinfo2 after = mallinfo2();
    printf("%d %d %d\\n", WEXITSTATUS(status),
           before - after.uordblks >= 3000000, after.fsmblks >= 3000000);
    if (count > 1) {
        p = strdup(words[1]);
        free(p);
        free(p);
    }
    return 0;
}
"""
NEW = """
#include <iostream>
#include <new>
#include <string>
#include <thread>
#include <vector>
int main() {
    std::vector<std::string> all;
    std::thread other([&] {
        for (int i = 0; i < 20000; i++) {
            all.push_back("long enough for the heap, that is " +
                          std::to_string(i));
        }
    });
    other.join();
    try {
        volatile size_t many = ~size_t(0) / 4;
        std::cout << (void *)new char[many];
    } catch (std::bad_alloc &) {
        std::cout << all.size() << "\\n";
    }
}
"""
CYCLE = {"event", "reason", "pid", "cycle", "used_before_bytes",
         "used_after_bytes", "used_after_objects", "held_before_bytes",
         "held_after_bytes", "held_after_objects", "freed_bytes",
         "freed_objects", "block_bytes", "committed_bytes", "next_bytes",
         "read_heap_bytes", "read_root_bytes", "read_foreign_bytes",
         "threads", "markers", "pause_ns", "stop_ns", "mark_ns"}


def check_cycles(lines):
    assert lines
    for line in lines:
        cycle = json.loads(line)
        assert set(cycle) == CYCLE, cycle
        assert cycle["event"] == "cycle", cycle
        assert cycle["reason"] in ("held", "goal"), cycle
        assert (cycle["used_before_bytes"] - cycle["freed_bytes"]
                == cycle["used_after_bytes"]), cycle
        assert (cycle["held_before_bytes"] - cycle["freed_bytes"]
                == cycle["held_after_bytes"]), cycle
        assert 0 < cycle["stop_ns"] <= cycle["pause_ns"], cycle
    return {json.loads(line)["pid"] for line in lines}


def check_trace(folder):
    """A line a collection, of the program and of its child; R4."""
    program = build(folder, "churn", CHURN, "-pthread", "-fno-builtin")
    code, out, err = run("run", "--trace", program)
    assert (code, out) == (0, "7 1 1\n"), (code, out, err)
    assert "(held): in objects" in err and "; held " in err, err
    code, out, err = run("run", "--trace=json", program)
    assert (code, out) == (0, "7 1 1\n"), out
    assert len(check_cycles(err.splitlines())) == 2, err
    file = folder / "the lines \"of\" it"
    code, out, err = run("run", f"--trace=json:{file}", program)
    assert (code, out, err) == (0, "7 1 1\n", ""), err
    assert len(check_cycles(file.read_text().splitlines())) == 2
    for word in "--trace=xml", "--tracer", "--trace=json:/no/such/file":
        assert run("run", word, "true")[0] == 125, word


def check_stats(folder):
    """At most 15 lines a process; what is in memory adds up (SU1)."""
    program = build(folder, "churn", CHURN, "-pthread", "-fno-builtin")
    code, out, err = run("run", "--stats", program)
    assert (code, out) == (0, "7 1 1\n"), err
    heads = [line for line in err.splitlines() if "at exit" in line]
    assert len(heads) == 2 and all("(churn)" in line for line in heads), err
    assert heads[0].split()[2] != heads[1].split()[2], err
    for part in err.split("loam: process ")[1:]:
        assert len(part.splitlines()) <= 15, part
        last = part.splitlines()[-7:]
        sizes = [int(line.split()[-2]) for line in last]
        assert "in memory" in last[0], part
        assert sizes[0] == sum(sizes[1:]) > 1000, part


def check_two(folder):
    """A program with a collector of its own is told from one without."""
    here = pathlib.Path(COMMAND).parent
    archive = here / "libloam.a"
    if not archive.exists():
        return
    text = ("const char *loam_version(void);\n"
            "int main(void) { return *loam_version() - '0'; }\n")
    program = build(folder, "two", text, str(archive), "-Wl,-s", "-pthread",
                    "-ldl")
    code, _, err = run("run", program)
    assert code == 125 and "libloam.a" in err and "libloam.so" in err, err
    assert run("run", "--force", program)[0] == 0
    assert run("run", COMMAND, "version")[0] == 0  # has no such mark itself


def check_static(folder):
    """loam_malloc_static.o: forks, threads, new, and freed twice."""
    first = pathlib.Path(COMMAND).parent / "loam_malloc_static.o"
    if not build(folder, "plain", PROGRAM, "-static"):
        return
    program = build(folder, "churns", CHURN, str(first), "-static", "-pthread",
                    "-fno-builtin")
    code, out, err = run(shell=program, LOAM_TRACE="1", LOAM_VERIFY="1")
    assert (code, out) == (0, "7 1 1\n"), (code, out, err)
    assert "20 of 20" in err and "(held)" in err, err
    code, out, err = run(shell=f"{program} twice")
    assert code == 0 and "not in use" in err, (code, err)
    assert run(shell=f"{program} twice", LOAM_ABORT="1")[0] != 0
    assert run(shell=program, LOAM_MODE="plain")[1].startswith("7 1 0")
    lost = build(folder, "lost", LOST, str(first), "-g", "-O0", "-static",
                 "-DGAP=256")
    code, _, err = run(shell=lost, LOAM_MODE="leakcheck",
                       LOAM_TOOL=str(COMMAND))
    assert code == 23 and "leaked 210 bytes in 20 objects" in err, err
    assert "#0 lose" in err and "lost.c:" in err, err
    source = folder / "new.cc"
    source.write_text(NEW)
    done = subprocess.run(["c++", "-static", "-o", folder / "new", source,
                           first, "-pthread"], capture_output=True, text=True)
    if done.returncode == 0:
        code, out, err = run(shell=str(folder / "new"), LOAM_STATS="1")
        assert (code, out) == (0, "20000\n") and "at exit" in err, (out, err)


def check_doctor():
    code, out, _ = run("doctor")
    assert code == 0 and "libloam_malloc" in out, out
    assert run("doctor", "word")[0] == 2
    assert run("doctor", str(os.getpid()))[0] == 1
    with subprocess.Popen([COMMAND, "run", "cat"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE,
                          env={**os.environ, "LOAM_LIMIT": "1G"}) as process:
        process.stdin.write(b"x\n")
        process.stdin.flush()
        process.stdout.readline()
        code, out, _ = run("doctor", str(process.pid))
        process.stdin.close()
    assert code == 0, out
    assert "malloc is Loam's" in out and "LOAM_LIMIT=1G" in out, out
    version = run("version")[1].split()[1]
    assert f"ok    version {version}\n" in out, out
    assert "mode quarantine, the default" in out, out
    assert run("doctor", "--", "sh")[0] == 0
    with tempfile.TemporaryDirectory() as name:
        script = pathlib.Path(name) / "script"
        for first in "#!/no/such/thing", "#!/usr/bin/env no-such-program":
            script.write_text(first + "\n")
            script.chmod(0o755)
            code, _, out = run("run", str(script))
            assert code == 127 and "interpreter is not there" in out, out
            assert f"{script}: " in out and first.split()[-1][2:] in out, out
    code, out, _ = run("doctor", "--", "no-such-program")
    assert code == 1 and "there is no such program" in out, out


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        check_becomes(folder)
        check_follow()
        check_no_proc()
        check_refused(folder)
        check_scripts(folder)
        check_doctor()
        check_leaks(folder)
        check_trace(folder)
        check_stats(folder)
        check_two(folder)
        check_static(folder)
    code, out, _ = run("version")
    assert code == 0 and out.startswith("loam "), out
    assert run()[0] == 2 and run("--help")[0] == 0
    print("the command does what it says")


main()
