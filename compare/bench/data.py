#!/usr/bin/python3
"""What data.c does, with Python's set, dict, list and sys.intern.

Times are those of plain loops, as a program would have them.  Bytes are what
sys.getsizeof says of the container, and of the objects that are its keys."""

import json
import resource
import sys
import time

MASK = (1 << 64) - 1
STEP = 7919
PHASES = {"vec": (["push_ns", "read_ns", "pop_ns", "sort_ns"], 3),
          "intern": (["new_ns", "again_ns"], 2)}
TABLE = (["add_ns", "find_ns", "miss_ns", "remove_ns", "walk_ns"], 4)


def mix64(x):
    x = (x + 0x9e3779b97f4a7c15) & MASK
    x = ((x ^ (x >> 30)) * 0xbf58476d1ce4e5b9) & MASK
    x = ((x ^ (x >> 27)) * 0x94d049bb133111eb) & MASK
    return x ^ (x >> 31)


def text_of(word):
    return "".join(chr(97 + (word >> (i * 5 % 60)) % 26)
                   for i in range(10 + word % 21))


class Clock:
    def __init__(self, phases):
        self.ns = dict.fromkeys(phases, 0)
        self.bytes = 0
        self.begin()

    def begin(self):
        self.last = time.perf_counter_ns()

    def phase(self, name):
        self.ns[name] += time.perf_counter_ns() - self.last
        self.begin()

    def held(self, thing, keys):
        size = sys.getsizeof(thing) + sum(map(sys.getsizeof, keys))
        self.bytes = max(self.bytes, size)
        self.begin()


def intset(clock, keys, others, again):
    found = missed = removed = 0
    clock.begin()
    table = set()
    for key in keys:
        table.add(key)
    clock.phase("add_ns")
    clock.held(table, keys)
    for key in again:
        found += key in table
    clock.phase("find_ns")
    for key in others:
        missed += key not in table
    clock.phase("miss_ns")
    total = 0
    for key in table:
        total ^= key
    clock.phase("walk_ns")
    for key in again:
        table.remove(key)
        removed += 1
    clock.phase("remove_ns")
    return total + found * 3 + missed * 5 + removed * 7


def mapping(clock, keys, others, again, walk):
    found = missed = removed = 0
    clock.begin()
    table = {}
    for key in keys:
        table[key] = key
    clock.phase("add_ns")
    clock.held(table, keys)
    for key in again:
        found += table[key] is key
    clock.phase("find_ns")
    for key in others:
        missed += table.get(key) is None
    clock.phase("miss_ns")
    total = walk(table)
    clock.phase("walk_ns")
    for key in again:
        del table[key]
        removed += 1
    clock.phase("remove_ns")
    return total + found * 3 + missed * 5 + removed * 7


def walk_numbers(table):
    total = 0
    for key in table:
        total ^= key
    return total


def walk_texts(table):
    total = 0
    for key in table:
        total += ord(key[-1])
    return total


def vector(clock, keys):
    total = 0
    clock.begin()
    vec = []
    for key in keys:
        vec.append(key)
    clock.phase("push_ns")
    clock.held(vec, keys)
    for at in range(len(vec)):
        total += vec[at]
    clock.phase("read_ns")
    vec.sort()
    clock.phase("sort_ns")
    total &= MASK
    for _ in range(len(vec)):
        total = (total * 31 + vec.pop()) & MASK
    clock.phase("pop_ns")
    return total


def intern(clock, first, copies, held, rounds):
    clock.begin()
    if not held:
        for text in first:
            held.append(sys.intern(text))
        clock.phase("new_ns")
        clock.ns["new_ns"] *= rounds
        table = dict.fromkeys(held)       # as the interpreter's own
        clock.held(table, held)
    total, count = 0, len(first)
    clock.begin()
    for at, text in enumerate(copies):
        total += sys.intern(text) is held[at * STEP % count]
    clock.phase("again_ns")
    return total


def main():
    words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    variant = words.get("--variant", "intset")
    rounds = int(words.get("--rounds", 3))
    count = int(words.get("--size", 100)) * 1000
    seed = int(words.get("--seed", 1))
    phases, counted = PHASES.get(variant, TABLE)
    clock = Clock(phases)
    keys = [mix64((seed << 32) + at) for at in range(2 * count)]
    if variant in ("strmap", "intern"):
        keys = [text_of(key) for key in keys]
    keys, others = keys[:count], keys[count:]
    again = [keys[at * STEP % count] for at in range(count)]
    start, held, total = time.process_time(), [], 0
    for _ in range(rounds):
        if variant == "intset":
            one = intset(clock, keys, others, again)
        elif variant == "vec":
            one = vector(clock, keys)
        elif variant == "intern":
            copies = ["".join(list(text)) for text in again]
            one = intern(clock, keys, copies, held, rounds)
        else:
            one = mapping(clock, keys, others, again, walk_texts
                          if variant == "strmap" else walk_numbers)
        total = (total * 31 + one) & MASK
    ns = {name: clock.ns[name] / count / rounds for name in phases}
    print(json.dumps({
        "bench": "data", "variant": variant, "collector": "python",
        "config": "python " + sys.version.split()[0], "sum": f"{total:016x}",
        "ms": sum(clock.ns.values()) / 1e6,
        "cpu_ms": (time.process_time() - start) * 1000, "size": count // 1000,
        "peak_rss_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "start_rss_kb": 0, "metadata_bytes": 0, "live_bytes": 0,
        "allocated_bytes": 0, "op_ns": sum(list(ns.values())[:counted])
        / counted, "bytes_element": clock.bytes / count} | ns))


main()
