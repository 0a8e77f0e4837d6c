"""The table that compare/run prints."""

import table_malloc
from judge import base_of, best_loam, figure, geomean, row_of

GROUPS = [("structure", "Structures"), ("small", "Small garbage"),
          ("list", "Growth"), ("library", "Real libraries, frees taken out"),
          ("threads", "Several threads, wall ms"),
          ("scaling", "Two threads at once, wall ns an object"),
          ("weak", "Weak references, finalizers, ns each"),
          ("rc", "Counted objects, their rings, ns each (some µs, bytes)"),
          ("data", "Sets, maps, vectors, interned texts, ns an operation"),
          ("pause", "Pauses, median µs"),
          ("stop", "Stopping the world, median µs"),
          ("fork", "Children that collect, median µs"),
          ("mark", "Marking a live heap, ns an object"),
          ("footprint", "Memory held / asked for")]

OTHERS = ["glibc", "mimalloc", "jemalloc", "leak", "bump", "std", "boost",
          "glib", "rcbox", "rust", "python"]


def number(value, width=8):
    if value is None:
        return "-".rjust(width)
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2
    return f"{value:.{digits}f}".rjust(width)


def megabytes(row):
    peak_kb = figure(row, "peak_rss_kb")
    return number(None if peak_kb is None else peak_kb / 1024, 7)


def interval(found):
    if not found:
        return "-".rjust(19)
    return (f"{found['ratio']:.3f}".rjust(6)
            + f" [{found['low']:.2f}, {found['high']:.2f}]".rjust(13))


def state(row):
    return "" if row is None or row["status"] == "ok" else row["status"]


def progress(result, seconds):
    """What is said of a benchmark when it is done."""
    if not result["rows"]:
        return "  not run"
    equal = result["verdict"].get("equal") or result["verdict"].get("defaults")
    text = f"{result.get('rounds', 0):3} rounds {seconds:6.1f} s"
    beside = table_malloc.over(result, result["field"], "mimalloc")
    if equal:
        text += f"   Loam/libgc {equal['ratio']:.3f}"
    elif beside and result["group"] in dict(table_malloc.GROUPS):
        text += f"   Loam/mimalloc {beside:.3f}"
    bad = [f"{row['collector']} {row['setting']}: {row['status']}"
           for row in result["rows"] if row["status"] != "ok"]
    return text + ("   (" + "; ".join(bad) + ")" if bad else "")


def others(report):
    """Of the rows for reference, those that were run."""
    return [name for name in OTHERS
            if any(row["collector"] == name for bench in report["benches"]
                   for row in bench["rows"])]


def line(bench, beside):
    name = bench["field"]
    base, mine = base_of(bench), best_loam(bench)
    equal = bench["verdict"].get("equal")
    text = f"  {bench['name']:<17}"
    text += number(bench.get("live_bytes", 0) / 2**20, 7)
    text += number(figure(base, name)) + megabytes(base)
    text += number(figure(mine, name)) + megabytes(mine)
    text += (mine["setting"] if mine else "-").rjust(9)
    text += interval(equal or bench["verdict"].get("defaults"))
    text += " " if equal or not bench["verdict"].get("defaults") else "*"
    over = [found["ratio"] for found in bench["verdict"]["over"]]
    text += (f" {min(over):.2f}..{max(over):.2f}" if over else " -").ljust(12)
    for collector in beside:
        text += number(figure(row_of(bench, collector), name), 9)
    return text


def head(report):
    clock = "CPU ms" if report["clock"] == "cpu" else "ms"
    text = "\n" + " " * 19 + "live".rjust(7) + "libgc".rjust(15) \
        + "Loam".rjust(24) \
        + "Loam / libgc".rjust(19) + " over its".ljust(13) \
        + "for reference"
    text += "\n  " + "benchmark".ljust(17) + "MB".rjust(7) \
        + clock.rjust(8) + "MB".rjust(7) \
        + clock.rjust(8) + "MB".rjust(7) + "setting".rjust(9) \
        + "[95 %]".rjust(19) + "  settings   "
    return text + "".join(other.rjust(9) for other in others(report))


def ratios(benches, collector):
    """Loam's best over another collector, for each benchmark with both."""
    found = []
    for bench in benches:
        mine = figure(best_loam(bench), bench["field"])
        theirs = figure(row_of(bench, collector), bench["field"])
        if mine is not None and theirs:
            found.append(mine / theirs)
    return found


def equals(benches):
    return [bench["verdict"]["equal"]["ratio"] for bench in benches
            if bench["verdict"].get("equal")]


def summary(benches):
    """Geometric means, by group and of all that is timed in ms."""
    lines = []
    timed = [bench for bench in benches if bench["unit"] == "ms"
             and bench["group"] in dict(GROUPS)]
    parts = [(title, [bench for bench in timed if bench["group"] == group])
             for group, title in GROUPS] + [("All of these", timed)]
    parts += [(title, [bench for bench in benches if bench["group"] == group])
              for group, title in GROUPS if group == "threads"]
    for title, part in parts:
        same = equals(part)
        if not same:
            continue
        text = f"  {title:<34} Loam / libgc {geomean(same):.3f}" \
               f" ({len(same)} of {len(part)} at equal memory)"
        for other in ("glibc", "mimalloc", "bump"):
            values = ratios(part, other)
            if values:
                text += f"   / {other} {geomean(values):.2f}"
        lines.append(text)
    return lines


def reach_lines(report):
    rows = report["reach"]
    if not rows:
        return []
    lines = ["", f"Reach of this step, as the {report['scale']} suite "
                 "measures it" + ("" if report["scale"] == "full" else
                                  " (claims are made from --full)")]
    for row in rows:
        lines.append(f"  {row['state']:<12} {row['target']:<58} "
                     f"{row['figure']}")
    return lines


def render(report):
    benches = [bench for bench in report["benches"] if bench["rows"]]
    lines = []
    for group, title in GROUPS:
        part = [bench for bench in benches if bench["group"] == group]
        if part:
            lines += [title] if lines else [head(report), title]
            lines += [line(bench, others(report)) for bench in part]
    lines += table_malloc.lines(benches)
    means = summary(benches)
    if means:
        lines += ["", "Geometric means"] + means
    if any(bench["verdict"].get("defaults")
           and not bench["verdict"].get("equal") for bench in benches):
        lines.append("  * at both collectors' defaults: no setting of Loam "
                     "took as little memory as libgc")
    if any(bench["group"] in dict(GROUPS) for bench in benches):
        lines.append("  fit: Loam with a heap limit at the memory that libgc took "
                     "at its defaults; 2x: at twice the live size")
    lines += reach_lines(report)
    return "\n".join(lines)
