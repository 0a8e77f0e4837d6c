#!/usr/bin/env python3
"""Builds the benchmarks, runs them interleaved, judges, prints, saves.

Every round runs each configuration (a collector at a setting) once, in a new
random order, so that whatever else the machine does hits all alike.  The round
before the first is a warm-up: its figures are used to plan, then discarded.
"""

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import judge                                            # noqa: E402
import machine                                          # noqa: E402
import page                                             # noqa: E402
import reach                                            # noqa: E402
import table                                            # noqa: E402
from suite import BENCHES, COLLECTING, COLLECTORS, SCALES   # noqa: E402

# Rows for reference only: no target is about them.
BESIDE = ("mimalloc", "jemalloc", "leak")

# A row in a tight heap that takes so many times what it takes at its defaults
# is reported with that and not repeated.
SLOW = 10

# What may change a collector's behaviour is not inherited.
STRIPPED = ("LOAM_", "GC_", "MALLOC_", "MIMALLOC_", "JE_", "GLIBC_TUNABLES",
            "LD_PRELOAD")


def parse_arguments(words):
    parser = argparse.ArgumentParser(
        prog="compare/run",
        description="Loam beside Boehm's collector and malloc. Without "
                    "options: the quick suite, three minutes.")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--full", action="store_true",
                       help="the suite that claims are made from, "
                            "at most 45 minutes")
    scale.add_argument("--smoke", action="store_true",
                       help="everything once, tiny: do they run and agree?")
    parser.add_argument("--only", metavar="A,B",
                        help="these benchmarks only; a prefix will do")
    parser.add_argument("--collectors", metavar="A,B",
                        help="these only: " + " ".join(COLLECTORS))
    parser.add_argument("--runs", type=int, metavar="N",
                        help="so many rounds, whatever it takes")
    parser.add_argument("--seed", type=int, default=1, metavar="N",
                        help="of the order of runs")
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu",
                        help="the time that is compared; cpu is that of the "
                             "whole process, all threads, user and kernel")
    parser.add_argument("--out", metavar="DIR",
                        help="where results go (compare/results)")
    parser.add_argument("--build", metavar="DIR",
                        help="where to build (build/compare)")
    parser.add_argument("--programs", metavar="DIR",
                        help="build nothing: the programs are in DIR")
    parser.add_argument("--root", help=argparse.SUPPRESS,
                        default=os.path.dirname(os.path.dirname(
                            os.path.dirname(os.path.abspath(__file__)))))
    return parser.parse_args(words)


def say(text="", end="\n"):
    print(text, end=end, flush=True)


def build(root, folder):
    say(f"Building in {folder} ...")
    steps = [["cmake", "-G", "Ninja", "-S", root, "-B", folder,
              "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON",
              "-DLOAM_TESTS=OFF", "-DLOAM_COMPARE=ON"],
             ["cmake", "--build", folder, "-j", str(os.cpu_count() or 1)]]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode != 0:
            say(done.stdout[-4000:] + done.stderr[-4000:])
            sys.exit("compare/run: the build failed: " + shlex.join(step))
    return os.path.join(folder, "compare")


class Racer:
    """Runs programs; knows where they are and how long they may take."""

    def __init__(self, folder, scale_name):
        self.folder = folder
        self.scale_name = scale_name
        self.scale = SCALES[scale_name]
        self.environment = {
            name: value for name, value in os.environ.items()
            if not name.startswith(STRIPPED)}

    def preloads(self):
        """The allocators of the rows that are loaded before a program: their
        files, by row."""
        try:
            with open(os.path.join(self.folder, "preloads"),
                      encoding="utf-8") as file:
                return dict(line.split("=", 1) for line in
                            file.read().splitlines())
        except OSError:
            return {}

    def program(self, bench, collector):
        return os.path.join(self.folder, bench.program + "." + (
            "preload" if bench.preload else collector))

    def has(self, bench, collector):
        return os.path.exists(self.program(bench, collector)) and (
            not bench.preload or collector in self.preloads())

    def run(self, bench, collector, limit=0, prefault=0, extra=None):
        """(figures, None), or (None, what went wrong)."""
        command = [self.program(bench, collector),
                   *bench.arguments(self.scale_name)]
        before = self.preloads().get(collector) if bench.preload else None
        if before:
            extra = (extra or {}) | {"LD_PRELOAD": before}
        if limit:
            command += ["--limit", str(limit)]
        if prefault:
            command += ["--prefault", str(prefault)]
        done = self.finish(command, self.environment | (extra or {}))
        if done is None:
            return None, "timed out"
        if done.returncode != 0 and limit and "memory" in done.stderr.lower():
            return None, "out of memory"   # libgc gives up at the start
        if done.returncode != 0:
            reason = done.stderr.strip().splitlines()[-1:] or [""]
            return None, f"failed ({done.returncode}) {reason[0][:120]}".strip()
        try:
            figures = json.loads(done.stdout)
        except ValueError:
            return None, "printed no figures"
        if figures.get("out_of_memory"):
            return None, "out of memory"
        if before and not os.path.samefile(before, figures["config"]):
            return None, f"ran with {figures['config']}"
        return figures, None

    def finish(self, command, environment):
        """The finished process; or None, and it and its children are gone."""
        process = subprocess.Popen(command, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True,
                                   env=environment, start_new_session=True)
        try:
            out, err = process.communicate(timeout=self.scale.timeout_s)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as why:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(why, KeyboardInterrupt):
                raise
            return None
        return subprocess.CompletedProcess(command, process.returncode, out,
                                           err)

    def run_row(self, bench, row):
        return self.run(bench, row["collector"], row["limit_bytes"],
                        row["prefault_bytes"], row["environment"])


def make_row(collector, setting, limit=0, prefault=0, environment=None):
    return {"collector": collector, "setting": setting, "limit_bytes": limit,
            "prefault_bytes": prefault, "environment": environment or {},
            "status": "ok", "runs": []}


def plan_rows(racer, bench, chosen, counted):
    """One row for each configuration of this benchmark."""
    rows = []
    for collector in bench.collectors:
        if collector not in chosen or not racer.has(bench, collector):
            continue
        if collector == "leak" and not racer.scale.leak:
            continue
        prefault = counted["allocated_bytes"] if collector == "bump" else 0
        if max(prefault, collector == "leak" and counted["allocated_bytes"]) \
                > machine.available_bytes() // 2:
            continue
        # Of Loam's malloc the mode that does what the others do is compared,
        # and what its own default costs stands beside it.
        served = bench.preload and collector == "loam"
        rows.append(make_row(
            collector, "default", prefault=prefault,
            environment={"LOAM_MODE": "plain"} if served else None))
        if served:
            rows.append(make_row(collector, "quarantine",
                                 environment={"LOAM_MODE": "quarantine"}))
        if collector == "bdwgc":
            rows += [make_row(collector, setting, environment=environment)
                     for setting, environment in bench.settings.items()
                     if setting != "incremental" or racer.scale.incremental]
        if collector in COLLECTING and bench.factors:
            rows += [make_row(collector, f"{factor:g}x",
                              int(factor * counted["live_bytes"]) & ~4095)
                     for factor in racer.scale.factors]
    return rows


def least_peak_kb(warm):
    """Of libgc where its heap is not limited, with one marker or several."""
    return min((figures["peak_rss_kb"]
                for (collector, setting), figures in warm.items()
                if collector == "bdwgc" and setting in judge.UNLIMITED),
               default=None)


def fit_row(rows, warm):
    """A row in which Loam may have what libgc took at its defaults, so that the
    two can be compared at equal memory."""
    loam = warm.get(("loam", "default"))
    peak_kb = least_peak_kb(warm)
    if loam is None or peak_kb is None:
        return None
    # The limit counts side tables that are committed, though hardly touched.
    limit = (peak_kb - loam["start_rss_kb"]) * 1024
    limit = (limit + loam["metadata_bytes"]) & ~4095
    if limit < 65536 or any(row["setting"] == "fit" for row in rows):
        return None
    return make_row("loam", "fit", limit)


def warm_up(racer, bench, rows):
    """Runs each row once, unrecorded.  Returns the figures, and the seconds
    that a round will take."""
    warm, seconds = {}, 0.0

    def one(row):
        nonlocal seconds
        start = time.monotonic()
        figures, wrong = racer.run_row(bench, row)
        normal = warm.get((row["collector"], "default"))
        if not wrong and normal and row["limit_bytes"] \
                and figures["cpu_ms"] > SLOW * normal["cpu_ms"]:
            wrong = f"{figures['cpu_ms'] / 1000:.1f} s, over {SLOW} x its " \
                    "defaults"
        else:
            seconds += time.monotonic() - start
        if wrong:
            row["status"] = wrong
        else:
            row["config"] = figures["config"]
            warm[row["collector"], row["setting"]] = figures

    for row in rows:
        one(row)
    fit = fit_row(rows, warm) if bench.factors or bench.fit else None
    if fit is not None:
        rows.append(fit)
        one(fit)
        made = warm.get(("loam", "fit"))
        excess_kb = made["peak_rss_kb"] - least_peak_kb(warm) \
            - judge.NOISE_KB // 2 if made else 0
        if 0 < excess_kb * 1024 < fit["limit_bytes"]:
            fit["limit_bytes"] -= excess_kb * 1024
            one(fit)
    return warm, seconds


def race(racer, bench, rows, rounds, generator):
    for turn in range(rounds):
        order = [row for row in rows if row["status"] == "ok"
                 and (turn < racer.scale.others_max or bench.preload
                      or row["collector"] not in BESIDE)]
        generator.shuffle(order)
        for row in order:
            figures, wrong = racer.run_row(bench, row)
            if wrong:
                row["status"] = wrong
            else:
                row["runs"].append(figures)


def plan_rounds(scale, bench, budget_s, seconds):
    """How many rounds of so many seconds: what fits in this benchmark's share
    of the time; the least that is promised, where three shares suffice for
    it; two on a machine where they do not."""
    seconds = max(seconds, 0.001)
    fits = int((budget_s - seconds) / seconds)
    least = max(2, min(scale.rounds_min, int(3 * budget_s / seconds)))
    rounds = max(min(least, scale.rounds_max), min(scale.rounds_max, fits))
    return min(rounds, bench.turns,
               scale.preload_max if bench.preload else rounds)


def run_bench(racer, bench, options, budget_s, generator):
    """All of one benchmark: counted run, warm-up, rounds, verdict."""
    chosen = options.chosen
    counted, wrong = {"sum": None, "live_bytes": 0, "allocated_bytes": 0}, None
    if racer.has(bench, "count"):
        counted, wrong = racer.run(bench, "count")
    result = {"name": bench.name, "group": bench.group, "about": bench.about,
              "unit": bench.unit, "field": bench.measure,
              "arguments": " ".join(bench.arguments(racer.scale_name)),
              "rows": [], "complaints": []}
    if bench.measure == "cpu_ms" and options.clock == "wall":
        result["field"] = "ms"
    if wrong:
        result["complaints"].append(f"{bench.name}: counted run {wrong}")
        return result
    result |= {"sum": counted["sum"], "live_bytes": counted["live_bytes"],
               "allocated_bytes": counted["allocated_bytes"]}
    rows = result["rows"] = plan_rows(racer, bench, chosen, counted)
    warm, seconds = warm_up(racer, bench, rows)
    rounds = options.runs or plan_rounds(racer.scale, bench, budget_s, seconds)
    race(racer, bench, rows, rounds, generator)
    result["rounds"] = rounds
    result["complaints"] += judge.check_sums(result)
    for row in rows:
        tight = row["limit_bytes"] and (row["status"] == "timed out"
                                        or "over" in row["status"])
        if not tight and row["status"] not in ("ok", "wrong sum",
                                               "out of memory"):
            result["complaints"].append(
                f"{bench.name}.{row['collector']} ({row['setting']}): "
                f"{row['status']}")
    judge.judge(result)
    return result


def choose(options):
    """The benchmarks and collectors that are asked for."""
    benches = BENCHES
    if options.only:
        wanted = options.only.split(",")
        benches = [bench for bench in BENCHES
                   if any(bench.name.startswith(word) for word in wanted)]
        if not benches:
            sys.exit("compare/run: no such benchmark; there are "
                     + " ".join(bench.name for bench in BENCHES))
    options.chosen, options.interrupted = COLLECTORS, False
    if options.collectors:
        options.chosen = options.collectors.split(",")
        unknown = set(options.chosen) - set(COLLECTORS)
        if unknown:
            sys.exit("compare/run: no such collector: "
                     + " ".join(sorted(unknown)))
    return benches


def run_all(racer, benches, options):
    results = []
    generator = random.Random(options.seed)
    begin = time.monotonic()
    deadline = begin + racer.scale.budget_s
    for at, bench in enumerate(benches):
        if options.interrupted:
            break
        say(f"  [{at + 1:2}/{len(benches)}] {bench.name:<16}", end="")
        start = time.monotonic()
        if start > begin + racer.scale.limit_s:
            results.append({"name": bench.name, "group": bench.group,
                            "rows": [], "complaints":
                            [f"{bench.name}: not run, time is over"]})
            say("  not run")
            continue
        share_s = max(0.0, deadline - start) / (len(benches) - at)
        try:
            result = run_bench(racer, bench, options, share_s, generator)
        except KeyboardInterrupt:
            say("  interrupted")
            options.interrupted = True
            continue
        say(table.progress(result, time.monotonic() - start))
        results.append(result)
    return results


def save(report, options):
    folder = options.out or os.path.join(options.root, "compare", "results")
    os.makedirs(folder, exist_ok=True)
    name = f"{report['scale']}-{report['started'].replace(':', '')}"
    raw = os.path.join(folder, name + ".json")
    with open(raw, "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
    drawn = os.path.join(folder, name + ".html")
    has_page = page.write(report, drawn)
    for ending in ("json", "html") if has_page else ("json",):
        link = os.path.join(folder, "latest." + ending)
        if os.path.lexists(link):
            os.remove(link)
        os.symlink(name + "." + ending, link)
    say(f"\nRaw figures  {raw}")
    say(f"Page         {drawn}" if has_page else
        "No page: Debian's node-d3 is not installed.")


def main(words):
    options = parse_arguments(words)
    scale_name = ("full" if options.full else
                  "smoke" if options.smoke else "quick")
    benches = choose(options)
    folder = options.build or os.path.join(options.root, "build", "compare")
    if not options.programs:
        options.programs = build(options.root, folder)
    racer = Racer(options.programs, scale_name)
    start = time.time()
    report = {"scale": scale_name, "clock": options.clock,
              "command": "compare/run " + shlex.join(
                  [word for at, word in enumerate(words)
                   if word != "--root" and words[at - 1] != "--root"]),
              "started": time.strftime("%Y-%m-%dT%H:%M:%S",
                                       time.localtime(start)),
              "machine": machine.describe(options.root),
              "load_before": os.getloadavg()}
    say(f"Running the {scale_name} suite: {len(benches)} benchmarks.")
    report["benches"] = run_all(racer, benches, options)
    report["seconds"] = time.time() - start
    report["load_after"] = os.getloadavg()
    report["reach"] = reach.table(report["benches"], scale_name)
    say(table.render(report))
    save(report, options)
    complaints = [line for bench in report["benches"]
                  for line in bench["complaints"]]
    for line in complaints:
        say("WRONG  " + line)
    if options.interrupted:
        return 130
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
