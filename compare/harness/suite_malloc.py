"""What is run beside the allocators alone: malloc's own benchmarks, and whole
programs.

Here no program knows of Loam: each is one file for all rows, started with the
row's allocator in front of the C library.  Nothing of libgc's is like it.
"""

from suite_bench import Bench

MALLOCS = ["loam", "glibc", "mimalloc", "jemalloc"]


def _malloc(name, program, about, smoke, quick, full, **more):
    more = {"group": "malloc", "turns": 9} | more
    return Bench(name, program, more.pop("group"), about, smoke, quick, full,
                 factors=False, preload=True, collectors=MALLOCS, **more)


def _crowd(name, count, about, smoke, quick, full, **more):
    """The same by so many threads, each with its part of the work."""
    return _malloc(f"{name}-{count}t", more.pop("program", name),
                   f"{about}, {count} thread{'s' if count > 1 else ''}",
                   *(f"--size {size // count} --threads {count} {rest}"
                     for size, rest in (smoke, quick, full)), **more)


def _program(name, quick, full):
    return _malloc("run-" + name, "program", f"{name}, a whole program",
                   "--size 1", f"--size {quick}", f"--size {full}",
                   variant=name, group="program")


BENCHES = [
    *(_crowd("larson", count, "a server: what a thread frees others made",
             (8, "--rounds 2"), (120, "--rounds 5"), (1200, "--rounds 10"))
      for count in (1, 2, 4)),
    *(_crowd("xmalloc", count, "half of them allocate, the other half frees",
             (80, ""), (2000, ""), (20000, "")) for count in (2, 4)),
    *(_crowd("mstress", count, "many sizes, some freed by others",
             (20, "--rounds 2"), (200, "--rounds 4"), (800, "--rounds 10"))
      for count in (1, 2, 4)),
    *(_crowd("rptest", count, "random batches, a quarter for others",
             (80, ""), (800, ""), (8000, "")) for count in (1, 2, 4)),
    *(_crowd("alloctest", count, "slots filled and emptied at random",
             (40, ""), (1000, ""), (10000, "")) for count in (1, 2)),
    _crowd("sh6", 1, "small to large, freed in mixed orders", (10, ""),
           (500, ""), (10000, ""), program="shbench"),
    _crowd("sh8", 4, "small to large, freed in mixed orders", (12, ""),
           (800, ""), (12000, ""), program="shbench"),
    *(_crowd(f"cache-{variant}", 2, about, (2000, ""), (100000, ""),
             (1000000, ""), program="sharing", variant=variant)
      for variant, about in (("scratch", "passive false sharing"),
                             ("thrash", "active false sharing"))),
    _malloc("malloc-large", "heavy", "blocks of 5 to 25 MiB replaced",
            "--size 4", "--size 20", "--size 200", variant="replace"),
    *(_malloc(f"realloc-{variant}", "heavy", about, "--size 2",
              "--size 16 --rounds 2", "--size 64 --rounds 6", variant=variant)
      for variant, about in (
          ("grow", "a text that grows by an eighth each time"),
          ("step", "a text that grows by 256 KiB each time"))),
    *(_malloc(f"drift-{variant}", "drift", about, "--size 1", "--size 4",
              "--size 64", measure=f"{variant}_ratio", unit="bytes held / live",
              turns=3)
      for variant, about in (
          ("peak", "sizes that drift: held at most, for what was live"),
          ("end", "when nine tenths have been freed"))),
    *(_malloc(f"pair-{bytes_}", "pair", f"malloc and free of {bytes_} bytes",
              "--size 10", "--size 300 --rounds 5", "--size 3000 --rounds 9",
              variant=str(bytes_), measure="pair_ns", unit="ns")
      for bytes_ in (16, 64, 1024)),
    _program("bash", 4, 60), _program("python3", 4, 100),
    _program("perl", 5, 50), _program("lua", 5, 60),
    _program("sqlite3", 4, 60), _program("cc1", 4, 60),
    _program("jq", 4, 50), _program("tar-xz", 5, 60),
    _program("sort", 8, 150), _program("gawk", 5, 60), _program("git", 4, 60),
]
