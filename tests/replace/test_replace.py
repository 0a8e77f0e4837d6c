#!/usr/bin/env python3
"""A program built plainly, and twice with loam/replace.h: the same output.

test_replace.py PLAIN WITH_FREE WITHOUT_FREE

The collected one must run, under a limit that it would pass without
collecting, and in fact collect; the one with its frees must not warn."""

import os
import subprocess
import sys


def run(program, **settings):
    done = subprocess.run([program], capture_output=True, text=True,
                          env={**os.environ, **settings}, timeout=300)
    if done.returncode:
        sys.exit(f"{program}: ended with {done.returncode}\n{done.stderr}")
    return done.stdout, done.stderr


plain, freeing, collected = sys.argv[1:4]
wanted, _ = run(plain)
if wanted.count("\n") < 100:
    sys.exit("the program says too little")
faults = 0
for program, settings in [
        (freeing, {}),
        (freeing, {"LOAM_LIMIT": "64M", "LOAM_CHECK": "all"}),
        (freeing, {"LOAM_DISABLE": "1"}),
        (collected, {}),
        (collected, {"LOAM_LIMIT": "64M"}),
        (collected, {"LOAM_LIMIT": "64M", "LOAM_CHECK": "all",
                     "LOAM_FLOOR": "64K", "LOAM_GROWTH": "10"})]:
    output, errors = run(program, **settings)
    if output != wanted or errors:
        print(f"{program} {settings}: not the same; said: {errors[:500]}")
        faults += 1
_, cycles = run(collected, LOAM_TRACE="1")
if cycles.count("\n") < 3:
    print(f"{collected}: collected {cycles.count(chr(10))} times only")
    faults += 1
print(f"{wanted.count(chr(10))} lines, {cycles.count(chr(10))} collections, "
      f"{faults} faults")
sys.exit(1 if faults else 0)
