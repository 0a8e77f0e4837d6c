"""The targets of steps 1 to 4, and whether they are met.

Each row says what is aimed at, what was measured, and "met", "not met" or "not
measured".  Times are those at equal memory (judge.py); where Loam has no such
setting, the target is not met, and the figure at its defaults is shown.
"""

import math

import table_malloc
from judge import base_of, best_loam, closed, figure, geomean, row_of

MARKING = {"random": 0.30, "depth": 0.80, "breadth": 0.95}
FOOTPRINT = {"step16": 1.03, "pow2": 1.03, "uniform": 1.08, "log": 1.15}
LIST_BYTES = 1 << 30


def _row(target, value, met):
    state = "not measured" if met is None else "met" if met else "not met"
    return {"target": target, "figure": value, "state": state}


def _time(benches, name, bound, target):
    """A ratio to libgc at equal memory."""
    bench = benches.get(name)
    verdict = bench["verdict"] if bench and bench["rows"] else {}
    found = verdict.get("equal")
    if found:
        return _row(target, f"{found['ratio']:.3f} "
                            f"[{found['low']:.2f}, {found['high']:.2f}]",
                    found["ratio"] <= bound)
    if verdict.get("defaults"):
        mine, base = (figure(row, "peak_rss_kb") / 1024
                      for row in (row_of(bench, "loam"), base_of(bench)))
        return _row(target, f"{verdict['defaults']['ratio']:.3f}, but in "
                            f"{mine:.1f} MB against {base:.1f}", False)
    return _row(target, "", None)


def _libraries(benches):
    part = [bench for bench in benches.values()
            if bench["group"] == "library" and bench["rows"]
            and best_loam(bench)]
    if not part:
        return [_row("real libraries", "", None)]
    rows = []
    shares, share = closed(part)
    each = ", ".join(f"{name} {value:.0%}" for name, value in shares.items())
    rows.append(_row("libraries: distance to the bump floor closed >= 60 %",
                     "no floor" if share is None else f"{share:.0%} ({each})",
                     None if share is None else share >= 0.60))
    slower = [bench["name"] for bench in part
              if (bench["verdict"].get("equal") or {"low": 9})["low"] > 1.03]
    rows.append(_row("libraries: none slower than libgc (lower bound <= 1.03)",
                     "slower, or at more memory: " + ", ".join(slower)
                     if slower else f"none of {len(part)}", not slower))
    over = [figure(best_loam(bench), bench["field"])
            / figure(row_of(bench, "glibc"), bench["field"])
            for bench in part
            if figure(row_of(bench, "glibc"), bench["field"])]
    if over:
        rows.append(_row("libraries: geomean <= 1.10 x glibc with its frees",
                         f"{geomean(over):.3f}", geomean(over) <= 1.10))
    return rows


def _list(benches, scale):
    bench = benches.get("list")
    row = row_of(bench, "loam") if bench and bench["rows"] else None
    floor = figure(row, "floor_bytes")
    target = "list: collections <= 1 + log2(its bytes / floor)"
    if not floor:
        return [_row(target, "", None)]
    bytes_ = {"full": LIST_BYTES}.get(
        scale, figure(row, "objects") * 32)
    bound = 1 + math.log2(bytes_ / floor)
    count = figure(row, "collections")
    return [_row(target, f"{count:.0f}, bound {bound:.1f} "
                         f"(floor {floor / 2**20:.1f} MiB)", count <= bound)]


def _footprint(benches):
    rows, metadata = [], []
    for variant, bound in FOOTPRINT.items():
        bench = benches.get("footprint-" + variant)
        row = row_of(bench, "loam") if bench and bench["rows"] else None
        ratio = figure(row, "block_ratio")
        target = f"bytes in blocks / asked, {variant} <= {bound}"
        if ratio is None:
            rows.append(_row(target, "", None))
            continue
        theirs = figure(row_of(bench, "bdwgc"), "rss_ratio")
        beside = f", libgc {theirs:.3f}" if theirs else ""
        rows.append(_row(target, f"{ratio:.4f}{beside}", ratio <= bound))
        metadata.append(figure(row, "metadata_bytes")
                        / figure(row, "heap_bytes"))
    if metadata:
        worst = max(metadata)
        rows.append(_row("metadata <= 2 % of the heap", f"{worst:.2%}",
                         worst <= 0.02))
    return rows


def _found(benches, name, field, collector="loam"):
    bench = benches.get(name)
    row = row_of(bench, collector) if bench and bench["rows"] else None
    return figure(row, field)


def _least(benches, name, field, bound, unit, target, beside=()):
    """A figure of Loam's at its defaults, with others' beside it."""
    value = _found(benches, name, field)
    if value is None:
        return _row(target, "", None)
    text = f"{value:,.4g} {unit}"
    for collector, other, title in beside:
        theirs = _found(benches, name, other, collector)
        if theirs is not None:
            text += f", {title} {theirs:,.4g}"
    return _row(target, text, value <= bound)


def _threads(benches):
    """Step 2: threads, stops, weak references."""
    bare = ("loam", "bare_stop_us", "bare signals")
    rows = [
        _least(benches, "stop-running-2", "stop_us", 50, "µs",
               "a stop of 2 running threads <= 50 µs",
               [bare, ("bdwgc", "stop_us", "libgc")]),
        _least(benches, "stop-safe-10000", "stop_us", 10000, "µs",
               "a stop of 10,000 threads in safe regions <= 10 ms",
               [bare, ("bdwgc", "stop_us", "libgc")]),
        _least(benches, "stop-wait-10000", "over_bare", 1.2, "x",
               "of 10,000 threads in other waits <= 1.2 x bare signals",
               [("bdwgc", "over_bare", "libgc")])]
    for kind in ("small", "mixed"):
        field = "scaling_" + kind
        value = _found(benches, "scaling", field)
        target = f"two threads allocating, {kind} >= 1.8 x one"
        if value is None:
            rows.append(_row(target, "", None))
            continue
        others = [f"{title} {_found(benches, 'scaling', field, name):.2f}"
                  for name, title in (("bdwgc", "libgc"), ("glibc", "glibc"),
                                      ("mimalloc", "mimalloc"))
                  if _found(benches, "scaling", field, name)]
        rows.append(_row(target, ", ".join([f"{value:.2f} x"] + others),
                         value >= 1.8))
    for field, title in (("get_ns", "in the cache"),
                         ("get_far_ns", "at random")):
        std = _found(benches, "weak-get", field, "std")
        rows.append(_least(
            benches, "weak-get", field, std or 0, "ns",
            f"reading a weak reference, {title} <= std::weak_ptr::lock",
            [("std", field, "std"), ("bdwgc", field, "libgc")]))
    rows.append(_least(benches, "weak-clear", "clear_ns", 60, "ns",
                       "clearing a weak reference <= 60 ns",
                       [("bdwgc", "clear_ns", "libgc")]))
    return rows


def _caches(benches):
    """Step 3: a cache beside a list and a table written by hand."""
    rows = []
    for kind, title in (("hit", "hits"), ("miss", "half of them missed")):
        name, field = f"cache-lru-{kind}", kind + "_ns"
        mine = _found(benches, name, field)
        theirs = _found(benches, name, field, "glibc")
        target = f"a cache of a million, {title} <= 2 x by hand"
        if mine is None or theirs is None:
            rows.append(_row(target, "", None))
            continue
        rows.append(_row(target, f"{mine / theirs:.2f} x ({mine:.0f} ns, by "
                                 f"hand {theirs:.0f})", mine <= 2 * theirs))
    return rows


def _over(benches, name, field, collector, bound, target):
    """A figure of Loam's over another's, both at their defaults."""
    mine = _found(benches, name, field)
    theirs = _found(benches, name, field, collector)
    if not mine or not theirs:
        return _row(target, "", None)
    return _row(target, f"{mine / theirs:.3f} x ({mine:,.3g}, {collector} "
                        f"{theirs:,.3g})", mine <= bound * theirs)


def _rings(benches):
    """Step 3: cyclic garbage beside Python's collector."""
    ratios = {}
    for shape in ("ring", "pairs", "rings", "tree", "random"):
        mine = _found(benches, f"rc-{shape}", "collect_ns")
        theirs = _found(benches, f"rc-{shape}", "collect_ns", "python")
        if mine and theirs:
            ratios[shape] = mine / theirs
    target = "cyclic garbage: geomean <= 1/7 of Python's, each <= 1/5"
    if not ratios:
        return _row(target, "", None)
    mean = geomean(ratios.values())
    each = ", ".join(f"{shape} 1/{1 / value:.1f}"
                     for shape, value in ratios.items())
    return _row(target, f"1/{1 / mean:.1f} ({each})",
                mean <= 1 / 7 and max(ratios.values()) <= 1 / 5)


def _counted(benches):
    """Step 3: objects that count their owners."""
    python, std = "python", "std"
    return [
        _rings(benches),
        _least(benches, "rc-behind", "collect_us", 20, "µs",
               "a thousand dead pairs beside a heap that lives <= 20 µs",
               [(python, "collect_us", "Python"),
                (python, "young_us", "its youngest alone")]),
        _least(benches, "rc-slice", "slice_us", 1000, "µs",
               "the longest slice <= 1 ms",
               [(python, "slice_us", "Python's longest")]),
        _over(benches, "rc-hot", "op_ns", std, 0.25,
              "retain and release, hot <= 0.25 x std::shared_ptr"),
        _over(benches, "rc-slots-L1", "op_ns", std, 0.7,
              "through slots in L1 <= 0.7 x std::shared_ptr"),
        _over(benches, "rc-hot-2t", "op_ns", std, 0.3,
              "hot with threads, private <= 0.3 x std::shared_ptr"),
        _least(benches, "rc-list", "op_ns", 3, "ns",
               "letting go of a list <= 3 ns an object",
               [(std, "op_ns", "std")]),
        _least(benches, "rc-branches", "op_ns", 5, "ns",
               "letting go of a tree <= 5 ns an object",
               [(std, "op_ns", "std")]),
        _least(benches, "rc-lazy", "p999_us", 2, "µs",
               "one release, by steps, 99.9 % <= 2 µs",
               [(std, "p999_us", "std")]),
        _over(benches, "rc-weak", "get_ns", std, 1,
              "a weak reference read, retained <= std::weak_ptr"),
        _least(benches, "rc-bytes", "bytes_object", 32, "bytes",
               "resident bytes for a counted object of 24 <= 32",
               [(std, "bytes_object", "std")])]


def table(results, scale):
    benches = {bench["name"]: bench for bench in results}
    collectors = {row["collector"] for bench in results
                  for row in bench["rows"]}
    if scale == "smoke" or "loam" not in collectors:
        return []
    rows = [_time(benches, f"mark-{order}", bound,
                  f"marking 512 MB, {order} <= {bound:.2f} x libgc")
            for order, bound in MARKING.items()]
    rows += [_time(benches, name, 0.5, f"{name} <= 0.5 x libgc")
             for name in ("gcbench", "trees")]
    rows += _libraries(benches)
    rows += [_time(benches, f"small-{size}", bound,
                   f"{size}-byte garbage <= {bound} x libgc")
             for size, bound in ((16, 0.4), (32, 0.4), (64, 0.4), (1024, 0.3))]
    rows += _list(benches, scale)
    rows.append(_time(benches, "list", 0.5, "list, time <= 0.5 x libgc"))
    rows += _footprint(benches)
    rows += _threads(benches)
    rows += _caches(benches)
    rows += _counted(benches)
    rows += [_row(*target) for target in table_malloc.targets(results)]
    return rows
