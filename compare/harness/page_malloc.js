// Allocators beside each other: for each benchmark a line, on it a dot for each
// allocator, its time and its peak memory as multiples of glibc's.

"use strict";

const MALLOC_ROWS = ["loam", "glibc", "mimalloc", "jemalloc"];
const MALLOC_NAMES = {loam: "Loam", glibc: "glibc", mimalloc: "mimalloc",
                      jemalloc: "jemalloc"};

// What each row has of `value`, over what glibc has.
function mallocLine(bench, value) {
  const base = pointOf(bench, "glibc");
  return {bench, dots: base === undefined ? [] : MALLOC_ROWS
    .map(name => pointOf(bench, name))
    .filter(point => point !== undefined && value(point) > 0)
    .map(point => ({point, ratio: value(point) / value(base)}))};
}

function drawMallocPart(holder, title, part, value) {
  const lines = part.map(bench => mallocLine(bench, value))
    .filter(line => line.dots.length > 1);
  if (lines.length === 0) {
    return;
  }
  const left = 330, width = 1128, step = 30, top = 44;
  const height = top + lines.length * step + 8;
  const all = lines.map(line => line.dots.map(dot => dot.ratio)).flat();
  const x = d3.scaleLog().range([left, width - 40])
    .domain([Math.min(0.5, d3.min(all) * 0.9),
             Math.max(2, d3.max(all) * 1.1)]);
  const panel = holder.append("div").attr("class", "panel");
  panel.append("h4").text(title);
  const svg = panel.append("svg").attr("viewBox", `0 0 ${width} ${height}`)
    .attr("width", "100%");
  svg.append("g").attr("transform", `translate(0,${top - 14})`)
    .call(d3.axisTop(x).ticks(8, "~g").tickSize(-(height - top)));
  const row = svg.selectAll("g.malloc").data(lines).join("g")
    .attr("transform", (line, at) => `translate(0,${top + 6 + at * step})`);
  row.append("text").attr("y", 0).text(line => line.bench.name);
  row.append("text").attr("class", "soft").attr("y", 13)
    .text(line => line.bench.about);
  const dot = row.selectAll("path.dot").data(line => line.dots).join("path")
    .attr("class", "dot")
    .attr("d", one => shape(SYMBOLS[one.point.collector], 70))
    .attr("transform", one => `translate(${x(one.ratio)},3)`)
    .attr("fill", one => color(one.point.collector))
    .attr("stroke", "var(--card)");
  hover(dot, one => describe(one.point) +
    `\n${fixed(one.ratio)} × glibc's\n${figure(one.point.last.faults)} ` +
    `page faults`);
}

function drawMalloc() {
  const part = benches.filter(bench => bench.group === "malloc" ||
                              bench.group === "program");
  if (part.length === 0) {
    return;
  }
  const holder = openSection("#malloc", "malloc, replaced", "The same program " +
    "with another allocator in front of the C library; what glibc takes is 1, " +
    "left is better.");
  legend(holder, MALLOC_ROWS.map(name => ({collector: name,
                                           text: MALLOC_NAMES[name]})));
  drawMallocPart(holder, "CPU time, or the figure that the name says", part,
                 point => point.time);
  drawMallocPart(holder, "Peak memory", part, point => point.peak);
}
