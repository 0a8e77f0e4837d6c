"""A benchmark, and who can take part."""

from dataclasses import dataclass, field

COLLECTORS = ["loam", "bdwgc", "glibc", "mimalloc", "jemalloc", "leak", "bump",
              "std", "boost", "glib", "rcbox", "rust", "python"]


@dataclass
class Bench:
    """One benchmark: a line of the table."""
    name: str
    program: str
    group: str               # a line of table.GROUPS
    about: str               # one line, for the page
    smoke: str
    quick: str
    full: str
    variant: str = ""
    measure: str = "cpu_ms"  # what is compared: cpu_ms, or a figure of its own
    unit: str = "ms"
    collectors: list = field(default_factory=lambda: list(COLLECTORS))
    factors: bool = True     # whether other heap sizes are tried too
    fit: bool = False        # whether, if they are not, libgc's memory is
    settings: dict = field(default_factory=dict)  # libgc's: environments
    turns: int = 99          # rounds, at most
    preload: bool = False    # one program, the rows' allocators before it

    def arguments(self, scale):
        words = getattr(self, scale).split()
        if self.variant:
            words += ["--variant", self.variant]
        return words
