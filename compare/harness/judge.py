"""Statistics, and the rule by which two collectors are compared.

The rule, for one benchmark and one setting of libgc: of Loam's settings whose
peak resident memory is no more than libgc's at that setting (1 % or 1 MiB more
is taken for noise), the fastest one counts.  The ratio that is reported is the
one at libgc's defaults; the best and the worst over libgc's settings stand
beside it.  Where no setting of Loam is that small, there is no ratio at equal
memory, and the table says so.
"""

import math
import random

NOISE_SHARE = 0.01
NOISE_KB = 1024
RESAMPLES = 2000

# libgc's settings that are its defaults: with one marker and, in programs of
# several threads, with as many as it would start by itself.  The faster one is
# the one that Loam is compared with.
UNLIMITED = ("default", "markers")


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    if len(values) % 2:
        return values[middle]
    return (values[middle - 1] + values[middle]) / 2


def geomean(values):
    return math.exp(sum(math.log(value) for value in values) / len(values))


def values_of(row, name):
    return [run[name] for run in row["runs"] if name in run]


def figure(row, name):
    """The median of a row's figure, or None where it was never taken."""
    if row is None or row["status"] != "ok":
        return None
    values = values_of(row, name)
    return median(values) if values else None


def ratio(row, base, name, seed=1):
    """{"ratio", "low", "high"}: medians of row over base, with a 95 % bootstrap
    interval; both rows are resampled independently."""
    mine, theirs = values_of(row, name), values_of(base, name)
    if not mine or not theirs or median(theirs) <= 0:
        return None
    generator = random.Random(seed)
    drawn = []
    for _ in range(RESAMPLES):
        top = median(generator.choices(mine, k=len(mine)))
        bottom = median(generator.choices(theirs, k=len(theirs)))
        drawn.append(top / bottom if bottom > 0 else math.inf)
    drawn.sort()
    return {"ratio": median(mine) / median(theirs),
            "low": drawn[int(0.025 * RESAMPLES)],
            "high": drawn[int(0.975 * RESAMPLES) - 1]}


def rows_of(bench, collector):
    return [row for row in bench["rows"] if row["collector"] == collector]


def row_of(bench, collector, setting="default"):
    for row in rows_of(bench, collector):
        if row["setting"] == setting:
            return row
    return None


def base_of(bench):
    """libgc at its defaults: its row, or the faster of two; or None."""
    rows = [row for row in rows_of(bench, "bdwgc")
            if row["setting"] in UNLIMITED
            and figure(row, bench["field"]) is not None]
    return min(rows, key=lambda row: figure(row, bench["field"]), default=None)


def fits(row, base):
    """Whether row's peak memory is no more than base's."""
    mine, theirs = figure(row, "peak_rss_kb"), figure(base, "peak_rss_kb")
    if mine is None or theirs is None:
        return False
    return mine <= max(theirs * (1 + NOISE_SHARE), theirs + NOISE_KB)


def against(bench, base):
    """Loam's fastest row that fits in base's memory, or None."""
    rows = [row for row in rows_of(bench, "loam") if fits(row, base)
            and figure(row, bench["field"]) is not None]
    return min(rows, key=lambda row: figure(row, bench["field"]), default=None)


def judge(bench):
    """Adds bench["verdict"]: the ratio at libgc's defaults and the range."""
    name = bench["field"]
    verdict = {"over": []}
    for base in rows_of(bench, "bdwgc"):
        if base["status"] != "ok":
            continue
        row = against(bench, base)
        if row is None:
            continue
        found = ratio(row, base, name)
        if found is None:
            continue
        found |= {"libgc": base["setting"], "loam": row["setting"]}
        verdict["over"].append(found)
        if base is base_of(bench):
            verdict["equal"] = found
    plain, base = row_of(bench, "loam"), base_of(bench)
    if figure(plain, name) is not None and figure(base, name) is not None:
        found = ratio(plain, base, name)
        if found is not None:
            verdict["defaults"] = found | {"libgc": base["setting"]}
    bench["verdict"] = verdict


def best_loam(bench):
    """The row that stands for Loam: the one judged at libgc's defaults, else
    Loam's own defaults."""
    equal = bench["verdict"].get("equal")
    row = row_of(bench, "loam", equal["loam"] if equal else "default")
    return row if row is not None and row["status"] == "ok" else None


def check_sums(bench):
    """Discards rows whose checksum is not the benchmark's; returns complaints.
    What is right is what the counted run says, else what most rows say."""
    seen = {}
    for row in bench["rows"]:
        for run in row["runs"]:
            seen[run["sum"]] = seen.get(run["sum"], 0) + 1
    right = bench.get("sum") or max(seen, key=seen.get, default=None)
    complaints = []
    for row in bench["rows"]:
        wrong = sorted({run["sum"] for run in row["runs"]} - {right})
        if wrong:
            row["status"] = "wrong sum"
            complaints.append(
                f"{bench['name']}.{row['collector']} ({row['setting']}): "
                f"checksum {wrong[0]}, expected {right}; row discarded")
    return complaints


def closed(benches):
    """How much of libgc's distance to the bump floor Loam closes: each
    library's own share, and that of the geometric means of time."""
    shares, loam, bump = {}, [], []
    for bench in benches:
        mine = figure(best_loam(bench), bench["field"])
        base = figure(row_of(bench, "bdwgc"), bench["field"])
        floor = figure(row_of(bench, "bump"), bench["field"])
        if None in (mine, base, floor):
            continue
        shares[bench["name"]] = (base - mine) / (base - floor) \
            if base != floor else 0.0
        loam.append(mine / base)
        bump.append(floor / base)
    if not loam or geomean(bump) >= 1:
        return shares, None
    return shares, (1 - geomean(loam)) / (1 - geomean(bump))
