// Counted objects: a line for each benchmark, a dot for each row, on a
// logarithmic axis, in the unit that the line names.

"use strict";

const COUNTED_ROWS = ["loam", "std", "boost", "rust", "rcbox", "glib",
                      "python"];

function countedLines() {
  return benches.filter(bench => bench.group === "rc").map(bench => ({
    bench, dots: points.get(bench).filter(point => point.ok && point.time > 0)
  })).filter(line => line.dots.length > 0);
}

function drawCounted() {
  const lines = countedLines();
  if (lines.length === 0) {
    return;
  }
  const holder = openSection("#counted", "Counted objects", "Each line in its " +
    "own unit, on one logarithmic axis; left is better. Rings are compared " +
    "with Python's collector, counts with C++, Boost, Rust and GLib.");
  const used = COUNTED_ROWS.filter(name =>
    lines.some(line => line.dots.some(dot => dot.collector === name)));
  legend(holder, used.map(collector => ({collector, text: NAMES[collector]})));
  const left = 420, width = 1128, step = 36, top = 26;
  const height = top + lines.length * step + 18;
  const all = lines.map(line => line.dots).flat();
  const x = d3.scaleLog().range([left, width - 40])
    .domain([d3.min(all, dot => dot.time) * 0.7,
             d3.max(all, dot => dot.time) * 1.4]);
  const svg = holder.append("div").attr("class", "panel").append("svg")
    .attr("viewBox", `0 0 ${width} ${height}`).attr("width", "100%");
  svg.append("g").attr("transform", `translate(0,${height - 24})`)
    .call(d3.axisBottom(x).ticks(8, "~g").tickSize(-(height - 32))
      .tickPadding(8));
  const row = svg.selectAll("g.counted").data(lines).join("g")
    .attr("transform", (line, at) => `translate(0,${top + at * step})`);
  row.append("text").attr("y", 0)
    .text(line => `${line.bench.name.slice(3)}, ${line.bench.unit}`);
  row.append("text").attr("class", "soft").attr("y", 14)
    .text(line => line.bench.about);
  row.append("line").attr("x1", left).attr("x2", width - 40).attr("y1", 3)
    .attr("y2", 3).attr("stroke", "var(--line)");
  const dot = row.selectAll("path.dot").data(line => line.dots).join("path")
    .attr("class", "dot").attr("d", one => shape(SYMBOLS[one.collector], 70))
    .attr("transform", one => `translate(${x(one.time)},3)`)
    .attr("fill", one => color(one.collector)).attr("stroke", "var(--card)");
  hover(dot, describe);
  row.selectAll("text.value")
    .data(line => line.dots.filter(one => one.collector === "loam"))
    .join("text").attr("class", "soft number").attr("text-anchor", "middle")
    .attr("y", -7).attr("x", one => x(one.time))
    .text(one => figure(one.time));
}
