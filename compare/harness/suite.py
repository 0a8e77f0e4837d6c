"""What is run: the benchmarks, their sizes, the collectors and their settings.

A benchmark is a program of bench/ with arguments for each of three scales:
smoke (does it work?), quick (some three minutes in all) and full (what claims are
made from).  Sizes are chosen so that Boehm's collector takes some 50 ms in the
quick scale and some 500 ms in the full one.
"""

import os
from dataclasses import dataclass

import suite_malloc
from suite_bench import COLLECTORS, Bench

COLLECTING = ["loam", "bdwgc"]
BY_HAND = ["glibc", "mimalloc", "jemalloc"]

# libgc's other ways, by the environment: a marker for each core, which its
# programs of several threads have by default; and its incremental mode, which
# is there for pauses.
MARKERS = {"markers": {"GC_MARKERS": str(max(2, os.cpu_count() or 2))}}
INCREMENTAL = {"incremental": {"GC_ENABLE_INCREMENTAL": "1"}}


@dataclass
class Scale:
    """How a suite is run: heap factors, rounds, and how long it may take."""
    factors: list            # of the live size, besides the defaults
    rounds_min: int
    rounds_max: int
    budget_s: float          # planned for all rounds; builds are not counted
    limit_s: float           # past this, what has not run is not run
    timeout_s: float         # for one run
    leak: bool = True        # whether the leak row is run
    incremental: bool = False  # whether libgc's incremental mode is
    others_max: int = 3      # rounds of the rows that nothing is judged by
    preload_max: int = 99    # rounds of those beside allocators alone


SCALES = {
    "smoke": Scale([2.0], 1, 1, 60, 300, 20),
    "quick": Scale([2.0], 3, 7, 150, 330, 30, leak=False,
                   preload_max=3),
    "full": Scale([1.5, 2.0, 3.0], 5, 15, 2300, 2650, 120,
                  incremental=True),
}


def _structure(name, about, smoke, quick, full, **more):
    program = more.pop("program", name)
    return Bench(name, program, "structure", about, smoke, quick, full, **more)


def _library(name, about, smoke, quick, full, **more):
    program = more.pop("program", name)
    return Bench(name, program, "library", about, smoke, quick, full, **more)


def _small(size, quick, full):
    return Bench(f"small-{size}", "small", "small",
                 f"objects of {size} bytes, garbage at once", "--size 20",
                 f"--size {quick}", f"--size {full}", variant=str(size))


def _mark(order):
    return Bench(f"mark-{order}", "mark", "mark",
                 f"marking a live heap laid out {LAYOUTS[order]}", "--size 4",
                 "--size 64 --rounds 5", "--size 512 --rounds 3",
                 variant=order, measure="mark_ns_object", unit="ns/object",
                 collectors=list(COLLECTING), factors=False)


def _churn(order):
    return _structure(f"churn-{order}",
                      f"a live tree laid out {LAYOUTS[order]}, parts replaced",
                      "--size 1 --rounds 1", "--size 16 --rounds 4",
                      "--size 64 --rounds 10", program="churn", variant=order)


def _footprint(variant, about):
    return Bench(f"footprint-{variant}", "footprint", "footprint", about,
                 "--size 8", "--size 64", "--size 256", variant=variant,
                 measure="rss_ratio", unit="bytes held / asked", factors=False,
                 turns=3, collectors=COLLECTING + BY_HAND)


def _lua(variant, about, smoke, quick, full):
    return _library(f"lua-{variant}", about, f"--size {smoke}",
                    f"--size {quick}", f"--size {full}", program="lua",
                    variant=variant)


def _threads(variant, count, about, smoke, quick, full):
    """As much for each thread as for one alone; wall time."""
    return Bench(f"{variant}-{count}t", "threads", "threads",
                 f"{about}, {count} thread{'s' if count > 1 else ''}",
                 *(f"--size {size} --threads {count}"
                   for size in (smoke, quick, full)), variant=variant,
                 measure="ms", unit="wall ms", settings=MARKERS)


def _weak(name, program, measure, about, smoke, quick, full, **more):
    more = {"collectors": COLLECTING, "settings": MARKERS, "fit": True} | more
    return Bench(name, program, "weak", about,
                 *(f"--size {size} --rounds 3" for size in (smoke, quick,
                                                            full)),
                 measure=measure, unit="ns", factors=False, **more)


def _data(variant, about):
    """Beside GLib's and Python's own; nothing of libgc's is like it."""
    return Bench(variant, "data", "data", about, "--size 2 --rounds 2",
                 "--size 100 --rounds 3", "--size 1000 --rounds 1",
                 variant=variant, measure="op_ns", unit="ns", factors=False,
                 turns=7, collectors=["loam", "glib", "python"])


# Who has objects that count their owners, and of these, weak references.
COUNTED = ["loam", "std", "boost", "glib", "rcbox", "rust"]
COUNTED_WEAK = ["loam", "std", "glib", "rust"]


def _rings(variant, about, measure="collect_ns", unit="ns", rounds=(2, 3, 3)):
    """What counts do not free, beside Python's collector."""
    return Bench(f"rc-{variant}", "rings", "rc", about,
                 f"--size 2 --rounds {rounds[0]}",
                 f"--size 100 --rounds {rounds[1]}",
                 f"--size 1000 --rounds {rounds[2]}", variant=variant,
                 measure=measure, unit=unit, factors=False, turns=7,
                 collectors=["loam", "python"])


def _counted(name, variant, about, quick, full, **more):
    """One operation on counted objects; they are few and short."""
    more = {"program": "counted", "measure": "op_ns", "unit": "ns",
            "smoke": "--size 2", "collectors": COUNTED} | more
    return Bench(f"rc-{name}", more.pop("program"), "rc", about,
                 more.pop("smoke") + " --rounds 1", quick, full,
                 variant=variant, factors=False, turns=9, **more)


def _shared(name, variant, about, **more):
    return _counted(name, variant, about, "--rounds 20 --threads 2",
                    "--rounds 100 --threads 2", smoke="--threads 2", **more)


def _slots(name, quick, full):
    return _counted(f"slots-{name}", "slots", f"a slot set to another object, "
                    f"in {name}", f"--size {quick} --rounds 20",
                    f"--size {full} --rounds 100")


def _pause(count):
    return Bench(f"pause-{count}t", "pause", "pause",
                 f"a server of {count} thread{'s' if count > 1 else ''}: "
                 "its median pause",
                 f"--size 2 --rounds 10 --threads {count}",
                 f"--size 32 --rounds 100 --threads {count}",
                 f"--size 256 --rounds 1500 --threads {count}",
                 measure="pause_us", unit="µs", factors=False, fit=True,
                 settings=MARKERS | INCREMENTAL, turns=5,
                 collectors=COLLECTING + ["glibc", "mimalloc"])


def _stop(variant, count, quick, full, **more):
    about = {"running": "that compute", "safe": "that wait in a safe region",
             "wait": "that wait elsewhere"}[variant]
    return Bench(f"stop-{variant}-{count}", "stop", "stop",
                 f"until {count:,} threads {about} stand still",
                 f"--rounds 3 --threads {min(count, 100)}",
                 f"--rounds {quick} --threads {count}",
                 f"--rounds {full} --threads {count}", variant=variant,
                 measure="stop_us", unit="µs", factors=False,
                 collectors=list(COLLECTING), **({"turns": 3} | more))


LAYOUTS = {"random": "at random", "depth": "depth-first",
           "breadth": "breadth-first"}

# What targets are about comes first, should time run short.
BENCHES = [
    _mark("random"), _mark("depth"), _mark("breadth"),
    _footprint("step16", "multiples of 16 to 128 bytes"),
    _footprint("pow2", "powers of two to 4 KiB"),
    _footprint("uniform", "16 bytes to 4 KiB"),
    _footprint("log", "32 to 256 KiB"),
    Bench("list", "list", "list", "a linked list that only grows", "--size 4",
          "--size 64", "--size 1024", factors=False,
          collectors=COLLECTING + BY_HAND + ["bump"]),
    Bench("scaling", "threads", "scaling",
          "objects of 16 bytes to 8 KiB by two threads, an object",
          "--size 2 --rounds 2", "--size 10 --rounds 9",
          "--size 40 --rounds 15", variant="scaling", measure="mixed_ns",
          unit="wall ns", factors=False, turns=5,
          collectors=COLLECTING + BY_HAND),
    _weak("weak-get", "weak", "get_ns", "reading a weak reference",
          5, 100, 1000, variant="get", collectors=COLLECTING + ["std"]),
    _weak("weak-clear", "weak", "clear_ns", "clearing one, the whole of its "
          "collection counted", 5, 200, 1000, variant="clear"),
    _weak("finalizers", "finalizers", "whole_ns", "registering a finalizer, "
          "finding the object dead, calling it", 5, 100, 1000),
    _weak("ephemerons", "ephemerons", "whole_ns", "an entry of a map with "
          "weak keys: put, asked for, dropped", 5, 100, 1000, variant="map"),
    _weak("ephemeron-chain", "ephemerons", "chain_ns", "a chain of ephemerons "
          "in the worst order", 5, 100, 1000, variant="chain", fit=False,
          settings={}, collectors=["loam"]),
    _stop("running", 1, 40, 300), _stop("running", 2, 40, 300),
    _stop("safe", 100, 20, 100), _stop("wait", 100, 20, 100),
    _stop("safe", 1000, 5, 20), _stop("wait", 1000, 5, 20),
    _stop("safe", 10000, 2, 5, turns=1), _stop("wait", 10000, 2, 5, turns=1),
    Bench("crowd-1000", "stop", "stop", "making a thread that allocates a "
          "little and waits, one of a thousand",
          "--size 1 --rounds 1 --threads 50",
          "--size 1 --rounds 1 --threads 1000",
          "--size 1 --rounds 1 --threads 1000", variant="wait",
          measure="begin_us", unit="µs", factors=False, turns=3,
          collectors=list(COLLECTING)),
    _pause(1), _pause(2),
    Bench("fork", "fork", "fork", "a child that allocates, collects, exits",
          "--size 1 --rounds 2 --threads 2",
          "--size 16 --rounds 20 --threads 2",
          "--size 64 --rounds 60 --threads 2", measure="child_us", unit="µs",
          factors=False, fit=True, settings=MARKERS,
          collectors=COLLECTING + BY_HAND),
    *(_threads("small", count, "objects of 32 bytes, garbage at once",
               20, 1000, 15000) for count in (1, 2, 4)),
    *(_threads("mixed", count, "objects of 16 bytes to 8 KiB that come and go",
               5, 100, 1000) for count in (1, 2, 4)),
    *(_threads("gcbench", count, "gcbench in each thread", 8, 12, 15)
      for count in (1, 2, 4)),
    *(_threads("handoff", count, "made by one thread, read and freed by "
               "another", 2, 50, 500) for count in (2, 4)),
    _data("intset", "a set of random integers: added, found, missed, removed"),
    _data("intmap", "a map from random integers to pointers: the same"),
    _data("strmap", "a map from texts to pointers: the same"),
    _data("vec", "a vector of words: pushed, read, popped"),
    _data("intern", "texts interned: new, and again"),
    _rings("ring", "garbage: one ring, an object"),
    _rings("pairs", "garbage: rings of two, an object"),
    _rings("rings", "garbage: rings of a hundred, an object"),
    _rings("tree", "garbage: a tree whose children know their parent"),
    _rings("random", "garbage: each leads to two others at random"),
    _rings("ring-live", "one ring that lives, all of it suspected"),
    _rings("random-live", "a random graph that lives, all of it suspected"),
    _rings("behind", "a thousand dead pairs beside a heap that lives",
           "collect_us", "µs", (3, 15, 30)),
    _rings("slice", "the longest slice, by itself", "slice_us", "µs"),
    _counted("hot", "hot", "one object retained and released, one thread",
             "--rounds 50", "--rounds 500"),
    _slots("L1", 128, 128), _slots("L2", 4096, 4096),
    _slots("memory", 262144, 4194304),
    _shared("hot-2t", "hot", "the same, when there has been another thread"),
    _shared("shared-2t", "hot", "the same, of a type that threads share",
            program="counted_shared"),
    _shared("both-2t", "both", "two threads retain and release one object",
            program="counted_shared"),
    _counted("list", "list", "a list let go of, an object",
             "--size 100 --rounds 3", "--size 1000 --rounds 5"),
    _counted("branches", "tree", "a tree let go of, an object",
             "--size 100 --rounds 3", "--size 1000 --rounds 5"),
    _counted("lazy", "lazy", "the slowest of a thousand releases, by steps of "
             "8 objects", "--size 200", "--size 700", measure="p999_us",
             unit="µs"),
    _counted("new", "new", "an object made and dropped",
             "--rounds 20", "--rounds 200"),
    _counted("weak", "weak", "a weak reference read, the object retained",
             "--size 100", "--size 1000 --rounds 10", measure="get_ns",
             collectors=COUNTED_WEAK),
    _counted("bytes", "bytes", "resident bytes for an object, 24 of them the "
             "program's", "--size 100", "--size 1000",
             measure="bytes_object", unit="bytes"),
    _library("jansson", "JSON parsed, changed, built, printed",
             "--size 2 --rounds 2", "--size 20 --rounds 4",
             "--size 80 --rounds 5"),
    _library("libxml2", "XML parsed, asked by XPath, changed, printed",
             "--size 2 --rounds 2", "--size 20 --rounds 4",
             "--size 50 --rounds 5", program="xml"),
    _library("sqlite", "SQL in memory", "--size 1 --rounds 1",
             "--size 12 --rounds 1", "--size 40 --rounds 2"),
    _library("gmp", "digits of pi and e, factorials", "--size 2",
             "--size 20", "--size 60"),
    _lua("strings", "Lua: texts, patterns", 10, 200, 1600),
    _lua("tables", "Lua: tables, sorting", 10, 150, 900),
    _lua("trees", "Lua: binary trees", 5, 150, 2000),
    _lua("closures", "Lua: closures, coroutines", 20, 1000, 5000),
    _small(16, 2000, 25000), _small(32, 2000, 25000), _small(64, 2000, 20000),
    _small(1024, 200, 2000),
    _structure("trees", "binary trees, as the well-known program has them",
               "--size 8", "--size 14", "--size 16"),
    _structure("gcbench", "trees from the top and the bottom, and an array",
               "--size 8", "--size 14", "--size 16"),
    _churn("random"), _churn("depth"), _churn("breadth"),
    _structure("arrays-medium", "arrays of 32 to 256 KiB that come and go",
               "--size 100", "--size 3000", "--size 14000", program="arrays",
               variant="medium"),
    _structure("arrays-large", "arrays of 1 to 16 MiB that come and go",
               "--size 20", "--size 100", "--size 300", program="arrays",
               variant="large"),
    _structure("strings", "text built, joined, split, sorted", "--size 1",
               "--size 16", "--size 120"),
    _structure("cache", "a bounded hash table of texts",
               "--size 1 --rounds 5", "--size 8 --rounds 100",
               "--size 40 --rounds 500"),
    *(Bench(f"cache-lru-{name}", "cache_lru", "weak", about,
            "--size 10 --rounds 2", "--size 1000 --rounds 2",
            "--size 1000 --rounds 8", measure=measure, unit="ns",
            factors=False, collectors=["loam", "glibc"])
      for name, measure, about in (
          ("hit", "hit_ns", "a cache: a key of a million that is there"),
          ("miss", "miss_ns", "a cache: every other key is missed and put"))),
    *suite_malloc.BENCHES,
]
