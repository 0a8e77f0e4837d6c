"""Tests of the harness: that it judges by its rule, and that a program which
computes something else is caught."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import judge                                            # noqa: E402
import reach                                            # noqa: E402
import suite                                            # noqa: E402
import table                                            # noqa: E402

PROGRAM = """#!/bin/sh
echo '{"config":"fake","sum":"SUM","cpu_ms":5,"ms":5,"peak_rss_kb":2000,'\
'"start_rss_kb":1000,"live_bytes":4096,"allocated_bytes":65536,'\
'"collections":1,"collect_ms":1,"heap_bytes":1,"block_bytes":1,'\
'"metadata_bytes":0,"floor_bytes":1}'
"""


def row(collector, times, peak_mb, setting="default", value="aa"):
    return {"collector": collector, "setting": setting, "status": "ok",
            "limit_bytes": 0,
            "runs": [{"cpu_ms": time, "peak_rss_kb": peak_mb * 1024,
                      "sum": value} for time in times]}


def bench(*rows, **more):
    made = {"name": "fake", "group": "library", "field": "cpu_ms",
            "unit": "ms", "rows": list(rows), "sum": "aa", "complaints": []}
    return made | more


class Judging(unittest.TestCase):

    def test_fastest_loam_that_fits_is_compared(self):
        found = bench(row("bdwgc", [10, 10, 10], 50),
                      row("loam", [2, 2, 2], 80),
                      row("loam", [4, 4, 4], 50, "3x"),
                      row("loam", [5, 5, 5], 30, "2x"))
        judge.judge(found)
        self.assertEqual(found["verdict"]["equal"]["loam"], "3x")
        self.assertAlmostEqual(found["verdict"]["equal"]["ratio"], 0.4)
        self.assertAlmostEqual(found["verdict"]["defaults"]["ratio"], 0.2)

    def test_no_verdict_where_loam_takes_more(self):
        found = bench(row("bdwgc", [10], 50), row("loam", [1], 52))
        judge.judge(found)
        self.assertNotIn("equal", found["verdict"])

    def test_noise_is_one_percent_or_one_mebibyte(self):
        base = row("bdwgc", [1], 500)
        self.assertTrue(judge.fits(row("loam", [1], 505), base))
        self.assertFalse(judge.fits(row("loam", [1], 506), base))
        small = row("bdwgc", [1], 4)
        self.assertTrue(judge.fits(row("loam", [1], 5), small))
        self.assertFalse(judge.fits(row("loam", [1], 5.1), small))

    def test_out_of_memory_is_never_the_winner(self):
        lost = row("loam", [], 1, "2x") | {"status": "out of memory"}
        found = bench(row("bdwgc", [10], 50), row("loam", [5], 40), lost)
        judge.judge(found)
        self.assertEqual(found["verdict"]["equal"]["loam"], "default")

    def test_interval_holds_the_ratio(self):
        found = judge.ratio(row("loam", [4, 5, 6, 5, 5], 1),
                            row("bdwgc", [10, 11, 9, 10, 12], 1), "cpu_ms")
        self.assertLessEqual(found["low"], found["ratio"])
        self.assertGreaterEqual(found["high"], found["ratio"])
        self.assertAlmostEqual(found["ratio"], 0.5)

    def test_the_faster_number_of_markers_is_compared(self):
        found = bench(row("bdwgc", [10], 50),
                      row("bdwgc", [8], 49, "markers"),
                      row("bdwgc", [1], 49, "incremental"),
                      row("loam", [4], 50))
        judge.judge(found)
        self.assertAlmostEqual(found["verdict"]["equal"]["ratio"], 0.5)
        self.assertEqual(found["verdict"]["equal"]["libgc"], "markers")

    def test_a_figure_that_some_rows_lack(self):
        found = bench(row("bdwgc", [10], 50), row("loam", [6], 40),
                      row("glibc", [7], 30), field="pause_us")
        for run in found["rows"][0]["runs"] + found["rows"][1]["runs"]:
            run["pause_us"] = run["cpu_ms"]
        judge.judge(found)
        self.assertAlmostEqual(found["verdict"]["equal"]["ratio"], 0.6)
        found["rows"][1]["runs"] = row("loam", [6], 40)["runs"]
        judge.judge(found)
        self.assertEqual(found["verdict"], {"over": []})

    def test_wrong_sum_discards_the_row(self):
        found = bench(row("bdwgc", [10], 50),
                      row("loam", [1], 10, value="bb"))
        complaints = judge.check_sums(found)
        self.assertEqual(len(complaints), 1)
        judge.judge(found)
        self.assertEqual(found["verdict"], {"over": []})

    def test_distance_closed(self):
        found = bench(row("bdwgc", [10], 50), row("loam", [6], 40),
                      row("bump", [5], 400))
        judge.judge(found)
        shares, share = judge.closed([found])
        self.assertAlmostEqual(shares["fake"], 0.8)
        self.assertAlmostEqual(share, 0.8)

    def test_tables_of_any_result(self):
        found = bench(row("bdwgc", [10], 50), row("loam", [6], 40),
                      row("bump", [5], 400), row("glibc", [7], 30),
                      about="", rounds=1)
        judge.judge(found)
        targets = reach.table([found], "full")
        self.assertTrue(all(target["state"] in ("met", "not met",
                                                "not measured")
                            for target in targets))
        text = table.render({"benches": [found], "clock": "cpu",
                             "scale": "full", "reach": targets})
        self.assertIn("0.600", text)


class Racing(unittest.TestCase):
    """compare/run on programs that only pretend."""

    def race(self, folder, sums, name="trees", missing=()):
        bench = next(one for one in suite.BENCHES if one.name == name)
        for collector in suite.COLLECTORS + ["count"]:
            if collector in missing:
                continue
            path = os.path.join(folder, f"{bench.program}.{collector}")
            with open(path, "w", encoding="utf-8") as file:
                file.write(PROGRAM.replace("SUM", sums.get(collector, "aa")))
            os.chmod(path, 0o755)
        return subprocess.run(
            [sys.executable, os.path.join(HERE, "race.py"), "--smoke",
             "--only", name, "--programs", folder, "--out", folder],
            capture_output=True, text=True)

    def test_equal_sums_pass(self):
        with tempfile.TemporaryDirectory() as folder:
            done = self.race(folder, {})
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_different_sum_fails_loudly(self):
        with tempfile.TemporaryDirectory() as folder:
            done = self.race(folder, {"loam": "bb"})
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("row discarded", done.stdout)
            self.assertIn("trees.loam", done.stdout)


    def test_the_allocator_that_was_loaded_is_the_row(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "larson.preload")
            with open(os.path.join(folder, "preloads"), "w",
                      encoding="utf-8") as file:
                file.write("glibc=\nloam=" + path + "\n")
            with open(path, "w", encoding="utf-8") as file:
                file.write(PROGRAM.replace("SUM", "aa")
                           .replace("fake", path))
            os.chmod(path, 0o755)
            command = [sys.executable, os.path.join(HERE, "race.py"),
                       "--smoke", "--only", "larson-1t", "--programs", folder,
                       "--out", folder]
            done = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("larson-1t", done.stdout)
            with open(path, "w", encoding="utf-8") as file:
                file.write(PROGRAM.replace("SUM", "aa")
                           .replace("fake", "/bin/sh"))
            done = subprocess.run(command, capture_output=True, text=True)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("ran with /bin/sh", done.stdout)

    def test_programs_that_malloc_lacks(self):
        with tempfile.TemporaryDirectory() as folder:
            done = self.race(folder, {}, "weak-clear", ("count", "glibc"))
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_settings_of_libgc_are_run(self):
        with tempfile.TemporaryDirectory() as folder:
            done = self.race(folder, {}, "pause-2t")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            with open(os.path.join(folder, "latest.json"),
                      encoding="utf-8") as file:
                rows = json.load(file)["benches"][0]["rows"]
            settings = [row["setting"] for row in rows
                        if row["collector"] == "bdwgc"]
            self.assertEqual(settings, ["default", "markers"])


if __name__ == "__main__":
    unittest.main()
