"""The machine, the versions and the build that a result belongs to."""

import os
import platform
import subprocess

PACKAGES = ["libgc1", "libmimalloc2.0", "libjemalloc2", "libc6", "libjansson4",
            "libxml2", "libsqlite3-0", "libgmp10", "liblua5.4-0"]


def _output(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True,
                              timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _cpu():
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _memory_mb():
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal"):
            return int(line.split()[1]) // 1024
    return 0


def available_bytes():
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024
    return 0


def describe(root):
    versions = {}
    for package in PACKAGES:
        version = _output("dpkg-query", "-W", "-f", "${Version}", package)
        if version:
            versions[package] = version
    changed = _output("git", "-C", root, "status", "--porcelain", "--", "gc",
                      "include", "compare", "CMakeLists.txt")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_mb": _memory_mb(),
        "kernel": platform.release(),
        "huge_pages":
            _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "compiler": _output("cc", "--version").partition("\n")[0],
        "packages": versions,
        "commit": _output("git", "-C", root, "rev-parse", "--short", "HEAD")
                  + (" with local changes" if changed else ""),
    }
