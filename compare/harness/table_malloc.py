"""Allocators beside each other: their ratios, their part of the table, and what
is aimed at."""

from judge import figure, geomean, ratio, row_of
from suite_malloc import MALLOCS

GROUPS = [("malloc", "malloc's own benchmarks"),
          ("program", "Whole programs, malloc replaced")]
TITLES = {"loam": "Loam"}


def of(report_benches, group):
    return [bench for bench in report_benches
            if bench["group"] == group and bench["rows"]]


def over(bench, name, other):
    """Loam's figure over another's, or None."""
    mine = figure(row_of(bench, "loam"), name)
    theirs = figure(row_of(bench, other), name)
    return mine / theirs if mine is not None and theirs else None


def mean_over(benches, name, other):
    found = [over(bench, name, other) for bench in benches]
    found = [value for value in found if value]
    return geomean(found) if found else None


def _number(value, width=8):
    if value is None:
        return "-".rjust(width)
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2
    return f"{value:.{digits}f}".rjust(width)


def _short(value, width=7):
    if value is None:
        return "-".rjust(width)
    text = f"{value / 1000:.1f}k" if value >= 10000 else f"{value:.0f}"
    return text.rjust(width)


def _line(bench):
    text = f"  {bench['name']:<17}"
    for name in MALLOCS:
        row = row_of(bench, name)
        peak_kb = figure(row, "peak_rss_kb")
        text += _number(figure(row, bench["field"])) \
            + _number(figure(row, "ms")) \
            + _number(None if peak_kb is None else peak_kb / 1024, 7) \
            + _short(figure(row, "faults"))
    mine, theirs = row_of(bench, "loam"), row_of(bench, "mimalloc")
    found = ratio(mine, theirs, bench["field"]) \
        if figure(mine, bench["field"]) is not None \
        and figure(theirs, bench["field"]) else None
    text += f"{found['ratio']:7.2f} [{found['low']:.2f}, {found['high']:.2f}]" \
        if found else "-".rjust(7)
    return text.ljust(157) + _number(over(bench, bench["field"], "glibc"), 6)


def _head():
    text = "\n" + " " * 19
    for name in MALLOCS:
        text += TITLES.get(name, name).rjust(16) + " " * 14
    text += "   Loam over\n  " + "benchmark".ljust(17)
    for _ in MALLOCS:
        text += "time".rjust(8) + "wall ms".rjust(8) + "MB".rjust(7) \
            + "faults".rjust(7)
    return text + "   mimalloc [95 %]".ljust(18) + " glibc"


def _means(title, benches):
    text = f"  {title:<30}"
    for other in MALLOCS[1:]:
        time = mean_over([bench for bench in benches
                          if bench["unit"] == "ms"], "cpu_ms", other)
        peak = mean_over(benches, "peak_rss_kb", other)
        if time and peak:
            text += f"   over {other}: CPU {time:.3f}, peak RSS {peak:.3f}"
    return text


def lines(benches):
    """The part of the table that compare/run prints of these."""
    found = [_head()] if any(of(benches, group) for group, _ in GROUPS) else []
    for group, title in GROUPS:
        part = of(benches, group)
        if part:
            found += [title] + [_line(bench) for bench in part]
    for group, title in GROUPS:
        if of(benches, group):
            found.append(_means(title, of(benches, group)))
    if found:
        found.append("  time: CPU ms, or what the name says (pair: ns; drift: "
                     "bytes held for bytes live)")
    return found


# --- Targets -----------------------------------------------------------------

def _worst(benches, start, bound):
    part = {bench["name"]: over(bench, bench["field"], "mimalloc")
            for bench in of(benches, "malloc")
            if bench["name"].startswith(start)}
    part = {name: value for name, value in part.items() if value}
    target = f"{start} <= {bound} x mimalloc's time"
    if not part:
        return target, "", None
    return (target, ", ".join(f"{name[len(start) + 1:]} {value:.2f}"
                              for name, value in part.items()),
            max(part.values()) <= bound)


def _pair(benches):
    part = {bench["name"]: bench for bench in of(benches, "malloc")}
    bench = part.get("pair-64")
    mine = figure(row_of(bench, "loam"), "pair_ns") if bench else None
    target = "malloc and free of 64 bytes <= 12 ns"
    if mine is None:
        return target, "", None
    beside = "".join(f", {name} {figure(row_of(bench, name), 'pair_ns'):.1f}"
                     for name in MALLOCS[1:]
                     if figure(row_of(bench, name), "pair_ns") is not None)
    return target, f"{mine:.1f} ns{beside}", mine <= 12


def _programs(benches, name, title, bound, bases):
    part = of(benches, "program")
    values = {base: mean_over(part, name, base) for base in bases}
    target = f"whole programs: {title}"
    if not all(values.values()):
        return target, "", None
    text = ", ".join(f"{value:.3f} x {base}" for base, value in values.items())
    return target, text, values[bases[0]] <= bound


def targets(benches):
    """(target, figure, met) of step 4; met is None where nothing was run."""
    return [_worst(benches, "larson", 1.1), _worst(benches, "xmalloc", 1.1),
            _worst(benches, "mstress", 1.1), _pair(benches),
            _programs(benches, "cpu_ms", "CPU time <= mimalloc's", 1,
                      ["mimalloc", "glibc"]),
            _programs(benches, "peak_rss_kb", "peak RSS <= 1.08 x glibc's",
                      1.08, ["glibc", "mimalloc"])]
