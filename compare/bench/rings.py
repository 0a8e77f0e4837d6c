#!/usr/bin/python3
"""What rings.c does, with Python's own objects and collector.

Classes have __slots__, so an object is three slots and the collector's two
words; gc.collect() is timed inside the program."""

import gc
import json
import resource
import statistics
import sys
import time

FEW = 100
DEAD = 1000


class Node:
    __slots__ = ("a", "b", "c")

    def __init__(self):
        self.a = self.b = self.c = None


class Rings:
    def __init__(self, shape, count, seed):
        self.shape, self.count, self.state = shape, count, seed
        self.nodes = []

    def random(self):
        self.state = (self.state * 1103515245 + 12345) & 0x7fffffff
        return self.state % self.count

    def build(self):
        count = self.count
        nodes = self.nodes = [Node() for _ in range(count)]
        if self.shape == "ring":
            for at, node in enumerate(nodes):
                node.a = nodes[(at + 1) % count]
        elif self.shape == "rings":
            for at, node in enumerate(nodes):
                node.a = nodes[at - at % FEW + (at + 1) % FEW]
        elif self.shape == "tree":
            for at, node in enumerate(nodes):
                if 2 * at + 1 < count:
                    node.a = nodes[2 * at + 1]
                if 2 * at + 2 < count:
                    node.b = nodes[2 * at + 2]
                if at > 0:
                    node.c = nodes[(at - 1) // 2]
        elif self.shape == "random":
            for node in nodes:
                node.a = nodes[self.random()]
                node.b = nodes[self.random()]
        else:
            for at, node in enumerate(nodes):
                node.a = nodes[at ^ 1]


def timed(clock, generation=2):
    """Objects found, and nanoseconds."""
    start = clock()
    found = gc.collect(generation)
    return found, clock() - start


def garbage(rings, rounds):
    found = spent_ns = 0
    for _ in range(rounds):
        rings.build()
        rings.nodes = []
        one, ns = timed(time.process_time_ns)
        found, spent_ns = found + one, spent_ns + ns
    return found, {"collect_ns": spent_ns / found}


def live(rings, rounds):
    rings.build()
    gc.collect()
    found = spent_ns = 0
    for _ in range(rounds):
        one, ns = timed(time.process_time_ns)
        found, spent_ns = found + one, spent_ns + ns
    return found, {"collect_ns": spent_ns / (rounds * rings.count)}


def dead_pairs():
    for _ in range(DEAD):
        one, two = Node(), Node()
        one.a, two.a = two, one


def behind(rings, rounds):
    """collect_us is gc.collect(); young_us that of the youngest alone."""
    rings.build()
    gc.collect()
    found, whole_us, young_us = 0, [], []
    for turn in range(2 * rounds):
        dead_pairs()
        one, ns = timed(time.perf_counter_ns, 2 if turn % 2 else 0)
        (whole_us if turn % 2 else young_us).append(ns / 1e3)
        found += one if turn % 2 else 0
    return found, {"collect_us": statistics.median(whole_us),
                   "young_us": statistics.median(young_us)}


def slices(rings, rounds):
    rings.build()
    start_ns = most_ns = found = 0

    def watch(phase, info):
        nonlocal start_ns, most_ns, found
        if phase == "start":
            start_ns = time.perf_counter_ns()
        else:
            most_ns = max(most_ns, time.perf_counter_ns() - start_ns)
            found += info["collected"]

    gc.callbacks.append(watch)
    gc.enable()
    nodes = rings.nodes
    for _ in range(rounds):
        dead_pairs()
        for _ in range(rings.count // 4):
            node = nodes[rings.random()]
            node.b = nodes[rings.random()]
    gc.disable()
    longest_ns = most_ns
    gc.collect()
    return found, {"slice_us": longest_ns / 1e3}


def main():
    words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    variant = words.get("--variant", "ring")
    rounds = int(words.get("--rounds", 3))
    count = int(words.get("--size", 100)) * 1000
    rings = Rings(variant.removesuffix("-live"), count,
                  int(words.get("--seed", 1)))
    gc.collect()
    gc.disable()
    gc.freeze()
    start, wall = time.process_time(), time.perf_counter()
    work = {"behind": behind, "slice": slices}.get(
        variant, live if variant.endswith("-live") else garbage)
    total, notes = work(rings, rounds)
    print(json.dumps({
        "bench": "rings", "variant": variant, "collector": "python",
        "config": "python " + sys.version.split()[0], "sum": f"{total:016x}",
        "ms": (time.perf_counter() - wall) * 1000,
        "cpu_ms": (time.process_time() - start) * 1000, "size": count // 1000,
        "peak_rss_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "start_rss_kb": 0, "metadata_bytes": 0, "live_bytes": 0,
        "allocated_bytes": 0} | notes))


main()
