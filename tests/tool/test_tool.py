#!/usr/bin/env python3
"""The command: loam run, loam doctor.  Arguments: the command, a C compiler."""

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
    done = subprocess.run([COMPILER, *options, "-o", path, source],
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
    assert "active, 20 of 20" in err, err
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
        assert code == 125 and "statically" in err and "loam_malloc.o" in err
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
    for first in "#!/bin/sh", "#!/usr/bin/env sh", "#!/usr/bin/env -S A=1 sh":
        script = folder / "script"
        script.write_text(first + "\necho $1\n")
        script.chmod(0o755)
        code, out, err = run("run", "--verify", str(script), "x")
        assert (code, out) == (0, "x\n") and "active" in err, (first, err)


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


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        check_becomes(folder)
        check_follow()
        check_refused(folder)
        check_scripts(folder)
        check_doctor()
    code, out, _ = run("version")
    assert code == 0 and out.startswith("loam "), out
    assert run()[0] == 2 and run("--help")[0] == 0
    print("the command does what it says")


main()
