// What several threads do: throughput, pauses, stops, weak references.  Drawn
// by page.js, whose names this uses.

"use strict";

const median = (row, name) => d3.median(row.runs.map(run => run[name])
  .filter(value => value !== undefined));
const rowOf = (bench, collector, setting = "default") => bench &&
  bench.rows.find(row => row.collector === collector && row.runs.length > 0
    && row.setting === setting && row.status === "ok");
const benchOf = name => benches.find(bench => bench.name === name);
const DASH = {markers: "7 4", incremental: "2 3"};
const settingName = (collector, setting) => NAMES[collector] +
  (setting === "default" ? "" : setting === "markers"
    ? ", a marker for each core" : `, ${setting}`);

function openSection(selector, title, note) {
  const holder = d3.select(selector);
  holder.append("h2").text(title);
  holder.append("p").attr("class", "note").text(note);
  return holder;
}

function legend(holder, names) {
  const item = holder.append("div").attr("class", "legend").selectAll("span")
    .data(names).join("span");
  const svg = item.append("svg").attr("width", 26).attr("height", 14)
    .append("g").attr("transform", "translate(13,7)");
  svg.append("line").attr("x1", -13).attr("x2", 13)
    .attr("stroke", one => color(one.collector)).attr("stroke-width", 2)
    .attr("stroke-dasharray", one => DASH[one.setting] || one.dash || null);
  svg.filter(one => !one.bare).append("circle").attr("r", 4)
    .attr("stroke", one => color(one.collector)).attr("stroke-width", 1.6)
    .attr("fill", one => one.hollow ? "var(--card)" : color(one.collector));
  item.append("span").text(one => one.text);
}

// --- Throughput by the number of threads ------------------------------------

const THREAD_KINDS = [["small", "32 bytes, garbage at once"],
                      ["mixed", "16 bytes to 8 KiB, come and go"],
                      ["gcbench", "trees and an array"],
                      ["handoff", "made by one, read and freed by another"]];
const THREAD_COUNTS = [1, 2, 4];
const THREAD_LINES = [["bump", "default"], ["jemalloc", "default"],
                      ["mimalloc", "default"], ["glibc", "default"],
                      ["bdwgc", "markers"], ["bdwgc", "default"],
                      ["loam", "equal"]];

// How much more is done in a second than by libgc's first point.
function threadLines(kind) {
  const found = THREAD_COUNTS.map(count => [count,
    benchOf(`${kind}-${count}t`)]).filter(([, bench]) => bench);
  const at = found.map(([count, bench]) =>
    [count, rowOf(bench, "bdwgc")]).find(([, row]) => row);
  if (!at) {
    return [];
  }
  const unit = at[0] / median(at[1], "ms");
  return THREAD_LINES.map(([collector, wanted]) => ({collector,
    setting: wanted === "equal" ? "default" : wanted,
    values: found.map(([count, bench]) => {
      const equal = bench.verdict.equal;
      const setting = wanted !== "equal" ? wanted
        : equal ? equal.loam : "default";
      const row = rowOf(bench, collector, setting);
      return row && {count, collector, bench, setting, row,
                     value: count / median(row, "ms") / unit};
    }).filter(Boolean)})).filter(line => line.values.length > 0);
}

function drawThreadPanel(card, kind, about) {
  const lines = threadLines(kind);
  card.append("h4").append("span").text(kind);
  card.append("p").text(about).attr("title", about);
  if (lines.length === 0) {
    return;
  }
  const width = 262, height = 250;
  const frame = {left: 40, right: 12, top: 10, bottom: 34};
  const svg = card.append("svg").attr("viewBox", `0 0 ${width} ${height}`)
    .attr("width", "100%");
  const all = lines.map(line => line.values).flat();
  const x = d3.scaleLog().base(2).domain([0.9, 4.5])
    .range([frame.left, width - frame.right]);
  const y = d3.scaleLog().base(2).range([height - frame.bottom, frame.top])
    .domain([d3.min(all, one => one.value) * 0.8,
             d3.max(all, one => one.value) * 1.25]);
  const ticks = d3.range(-4, 9).map(power => 2 ** power)
    .filter(tick => tick >= y.domain()[0] && tick <= y.domain()[1]);
  svg.append("g").attr("transform", `translate(0,${height - frame.bottom})`)
    .call(d3.axisBottom(x).tickValues(THREAD_COUNTS).tickFormat(d3.format("d"))
      .tickSize(0).tickPadding(8));
  svg.append("g").attr("transform", `translate(${frame.left},0)`)
    .call(d3.axisLeft(y).tickValues(ticks).tickFormat(tick => tick >= 1
      ? `${tick} ×` : `1/${1 / tick}`)
      .tickSize(-(width - frame.left - frame.right)).tickPadding(6));
  svg.append("text").attr("class", "soft").attr("text-anchor", "end")
    .attr("x", width - frame.right).attr("y", height - 3).text("threads");
  const path = d3.line().x(one => x(one.count)).y(one => y(one.value));
  for (const line of lines) {
    const main = line.collector === "loam" || line.collector === "bdwgc";
    svg.append("path").attr("fill", "none").attr("d", path(line.values))
      .attr("stroke", color(line.collector))
      .attr("stroke-dasharray", DASH[line.setting] ||
        (line.collector === "bump" ? "4 3" : null))
      .attr("stroke-width", main ? 2.4 : 1.4).attr("opacity", main ? 1 : 0.75);
    const dot = svg.selectAll(null).data(line.values).join("circle")
      .attr("cx", one => x(one.count)).attr("cy", one => y(one.value))
      .attr("r", main ? 4.4 : 3).attr("fill", line.setting === "markers"
        ? "var(--card)" : color(line.collector))
      .attr("stroke", color(line.collector)).attr("stroke-width", 1.5);
    hover(dot, one => [`${one.bench.name}: ` +
      settingName(one.collector, "default"), label(one.setting),
      `${figure(median(one.row, "ms"))} ms of wall time, ` +
      `${figure(median(one.row, "cpu_ms"))} ms of CPU`,
      `${figure(median(one.row, "peak_rss_kb") / 1024)} MB at its peak`,
      `${fixed(one.value)} times what libgc gets done alone`].join("\n"));
  }
}

function drawThreads() {
  if (!benches.some(bench => bench.group === "threads")) {
    return;
  }
  const holder = openSection("#threads", "Several threads",
    "Work done in a second of wall time by 1, 2 and 4 threads, each doing as " +
    "much as one alone: libgc's first point is 1. Loam in the setting that " +
    "takes no more memory than libgc, where it has one. On " +
    `${report.machine.cores} cores more than ${report.machine.cores} threads ` +
    "share them.");
  legend(holder, THREAD_LINES.slice().reverse().map(([collector, setting]) =>
    ({collector, setting, hollow: setting === "markers",
      dash: collector === "bump" ? "4 3" : null,
      text: settingName(collector, setting === "equal" ? "default"
                        : setting)})));
  const grid = holder.append("div").attr("class", "grid");
  THREAD_KINDS.forEach(([kind, about]) =>
    drawThreadPanel(grid.append("div").attr("class", "card"), kind, about));
}

// --- Pauses -----------------------------------------------------------------

const PAUSE_LINES = [["mimalloc", "default"], ["glibc", "default"],
                     ["bdwgc", "incremental"], ["bdwgc", "markers"],
                     ["bdwgc", "default"], ["loam", "default"]];

// [length in µs, share of all requests that are at least as long]
function requestCurve(row) {
  const counts = new Map();
  for (const run of row.runs) {
    (run.requests_ns || []).forEach((length, at) => counts.set(length,
      (counts.get(length) || 0) + run.requests_count[at]));
  }
  const lengths = [...counts.keys()].sort(d3.ascending);
  let left = d3.sum(counts.values());
  const all = left;
  return lengths.map(length => {
    const share = left / all;
    left -= counts.get(length);
    return [length / 1000, share];
  });
}

function pauseLines(bench) {
  return PAUSE_LINES.map(([collector, setting]) => {
    const row = rowOf(bench, collector, setting);
    return row && {collector, setting, row, curve: requestCurve(row),
                   pauses: row.runs.map(run => run.pauses_us || []).flat()};
  }).filter(Boolean);
}

const micro = value => value >= 1000 ? `${+(value / 1000).toPrecision(3)} ms`
  : `${+value.toPrecision(3)} µs`;

function drawRequestCurves(svg, lines, x, y, frame) {
  svg.append("g").attr("transform", `translate(${frame.left},0)`)
    .call(d3.axisLeft(y).tickValues([1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
      .filter(tick => tick >= y.domain()[0]))
      .tickFormat(tick => tick >= 0.01 ? `${tick * 100} %`
        : `1 in ${d3.format(",")(Math.round(1 / tick))}`)
      .tickSize(-(x.range()[1] - frame.left)).tickPadding(8));
  svg.append("text").attr("class", "soft").attr("x", 2)
    .attr("y", frame.top - 12).text("requests that take at least so long");
  const path = d3.line().x(point => x(point[0])).y(point => y(point[1]))
    .curve(d3.curveStepBefore);
  for (const line of lines) {
    const main = line.collector === "loam" || line.collector === "bdwgc";
    const drawn = svg.append("path").datum(line).attr("fill", "none")
      .attr("d", path(line.curve)).attr("stroke", color(line.collector))
      .attr("stroke-dasharray", DASH[line.setting] || null)
      .attr("stroke-linejoin", "round")
      .attr("stroke-width", main ? 2.2 : 1.4).attr("opacity", main ? 1 : 0.8);
    hover(drawn, one => [settingName(one.collector, one.setting),
      ...[["half", "request_us"], ["1 in 100", "request_us_99"],
          ["1 in 1,000", "request_us_999"],
          ["1 in 10,000", "request_us_9999"], ["worst", "request_us_max"]]
        .map(([text, name]) => `${text}: ${micro(median(one.row, name))}`)]
      .join("\n"));
  }
}

// A row of dots for each collector that pauses, below the curves, on one axis.
function drawPauseRows(svg, lines, x, top, step) {
  const rows = lines.filter(line => line.pauses.length > 0).reverse();
  const line = svg.selectAll("g.pause").data(rows).join("g")
    .attr("transform", (row, at) => `translate(0,${top + at * step})`);
  line.append("line").attr("x1", x.range()[0]).attr("x2", x.range()[1])
    .attr("stroke", "var(--line)");
  line.append("text").attr("class", "soft").attr("x", x.range()[0] - 10)
    .attr("y", 4).attr("text-anchor", "end")
    .text(row => row.setting === "default" ? NAMES[row.collector]
      : row.setting);
  line.selectAll("circle").data(row => d3.shuffle(row.pauses.slice())
    .slice(0, 400).map((pause, at) => ({row, pause, at}))).join("circle")
    .attr("cx", one => x(one.pause))
    .attr("cy", one => (one.at * 0.618 % 1 - 0.5) * 12).attr("r", 2.6)
    .attr("fill", one => color(one.row.collector)).attr("opacity", 0.42);
  const mark = line.append("path").attr("d", shape(d3.symbolDiamond, 62))
    .attr("transform", row => `translate(${x(d3.median(row.pauses))},0)`)
    .attr("fill", row => color(row.collector)).attr("stroke", "var(--ink)")
    .attr("stroke-width", 1);
  hover(mark, row => `${settingName(row.collector, row.setting)}\n` +
    `${row.pauses.length} pauses: median ${micro(d3.median(row.pauses))}, ` +
    `longest ${micro(d3.max(row.pauses))}`);
}

function drawPausePanel(card, bench) {
  const lines = pauseLines(bench);
  const title = card.append("h4");
  title.append("span").text(bench.name === "pause-1t" ? "one thread"
    : "two threads");
  const width = 550, step = 24, curves = 250;
  const frame = {left: 92, right: 16, top: 34};
  const count = lines.filter(line => line.pauses.length > 0).length;
  const height = frame.top + curves + 30 + count * step + 30;
  const svg = card.append("svg").attr("viewBox", `0 0 ${width} ${height}`)
    .attr("width", "100%");
  const lengths = lines.map(line => line.curve.map(([at]) => at)
    .concat(line.pauses)).flat().filter(value => value > 0);
  const x = d3.scaleLog().range([frame.left, width - frame.right])
    .domain([d3.min(lengths) * 0.8, d3.max(lengths) * 1.4]);
  const y = d3.scaleLog().range([frame.top + curves, frame.top])
    .domain([d3.min(lines, line => d3.min(line.curve, ([, at]) => at)) * 0.7,
             1]);
  const ticks = d3.range(-1, 6).map(power => 10 ** power)
    .filter(tick => tick >= x.domain()[0] && tick <= x.domain()[1]);
  svg.append("g").attr("transform", `translate(0,${height - 24})`)
    .call(d3.axisBottom(x).tickValues(ticks).tickFormat(micro)
      .tickSize(-(height - 24 - frame.top)).tickPadding(8));
  drawRequestCurves(svg, lines, x, y, frame);
  const top = frame.top + curves + 34;
  svg.append("text").attr("class", "soft").attr("x", 2).attr("y", top - 16)
    .text("pauses");
  drawPauseRows(svg, lines, x, top + 4, step);
}

function drawPauses() {
  const part = benches.filter(bench => bench.group === "pause");
  if (part.length === 0) {
    return;
  }
  const holder = openSection("#pauses", "Pauses, and what callers feel",
    "A server keeps a live heap and answers requests that allocate. The " +
    "curves are its callers' view: the share of requests that take at least " +
    "so long, with everything in them that made them wait, the machine's own " +
    "noise included, which those freed by hand show. The dots are the " +
    "collectors' own view on the same axis: each is one time the world stood " +
    "still; the diamond is their median.");
  legend(holder, PAUSE_LINES.slice().reverse().filter(([collector, setting]) =>
    part.some(bench => rowOf(bench, collector, setting)))
    .map(([collector, setting]) => ({collector, setting, bare: true,
      text: settingName(collector, setting)})));
  const grid = holder.append("div").attr("class", "grid two");
  part.forEach(bench => drawPausePanel(grid.append("div")
    .attr("class", "card"), bench));
}

// --- Stops ------------------------------------------------------------------

const STOP_KINDS = [["running", "that compute"], ["wait", "that wait"],
                    ["safe", "in safe regions"]];

function stopPoints() {
  const found = [];
  for (const bench of benches.filter(one => one.name.startsWith("stop-"))) {
    const [, kind, count] = bench.name.match(/^stop-([a-z]+)-(\d+)$/);
    for (const row of bench.rows.filter(one => one.runs.length > 0)) {
      const add = (collector, name) => {
        const value = median(row, name);
        if (value > 0) {
          found.push({kind, collector, row, value, count: +count});
        }
      };
      add(row.collector, "stop_us");
      if (row.collector === "bdwgc" || !rowOf(bench, "bdwgc")) {
        add("glibc", "bare_stop_us");
      }
    }
  }
  return found;
}

function drawStopLines(svg, part, x, y) {
  const path = d3.line().x(one => x(one.count)).y(one => y(one.value));
  for (const collector of ["glibc", "bdwgc", "loam"]) {
    for (const [kind] of STOP_KINDS) {
      const values = part.filter(one => one.collector === collector &&
        one.kind === kind).sort((a, b) => a.count - b.count);
      svg.append("path").attr("fill", "none").attr("d", path(values))
        .attr("stroke", color(collector)).attr("stroke-width", 2)
        .attr("stroke-dasharray", collector === "glibc" ? "4 3" : null)
        .attr("opacity", 0.8);
      const dot = svg.selectAll(null).data(values).join("path")
        .attr("transform", one => `translate(${x(one.count)},${y(one.value)})`)
        .attr("d", shape(kind === "running" ? d3.symbolSquare
          : d3.symbolCircle, 70))
        .attr("fill", kind === "safe" ? "var(--card)" : color(collector))
        .attr("stroke", color(collector)).attr("stroke-width", 1.8);
      hover(dot, one => `${one.collector === "glibc" ? "bare signals"
        : NAMES[one.collector]}: ${d3.format(",")(one.count)} threads ` +
        `${STOP_KINDS.find(([name]) => name === one.kind)[1]}\n` +
        `${micro(one.value)} until all stand still` +
        (one.collector === "glibc" ? "" : "\n" +
         `${micro(median(one.row, "collect_us"))} for the whole collection`));
    }
  }
}

function drawStops() {
  const part = stopPoints();
  if (part.length === 0) {
    return;
  }
  const holder = openSection("#stops", "Until everyone stands still",
    "From the decision to collect to the moment when the last thread has " +
    "stopped: threads that compute, that wait in a system call, and that " +
    "wait in a safe region, which need not be woken. Bare signals: one " +
    "signal to each, a count, a wait; in the same process, in turn.");
  legend(holder, [
    {collector: "loam", text: "Loam"}, {collector: "bdwgc", text: "libgc"},
    {collector: "glibc", text: "bare signals", dash: "4 3"},
    {collector: "loam", text: "in safe regions", hollow: true}]);
  const width = 1128, height = 380;
  const frame = {left: 70, right: 30, top: 16, bottom: 42};
  const svg = holder.append("div").attr("class", "panel").append("svg")
    .attr("viewBox", `0 0 ${width} ${height}`).attr("width", "100%");
  const x = d3.scaleLog().domain([0.8, 14000])
    .range([frame.left, width - frame.right]);
  const y = d3.scaleLog().range([height - frame.bottom, frame.top])
    .domain([d3.min(part, one => one.value) * 0.6,
             d3.max(part, one => one.value) * 1.7]);
  const powers = scale => d3.range(-2, 7).map(power => 10 ** power)
    .filter(tick => tick >= scale.domain()[0] && tick <= scale.domain()[1]);
  svg.append("g").attr("transform", `translate(0,${height - frame.bottom})`)
    .call(d3.axisBottom(x).tickValues([1, 2, 10, 100, 1000, 10000])
      .tickFormat(d3.format(",d")).tickPadding(8)
      .tickSize(-(height - frame.bottom - frame.top)));
  svg.append("g").attr("transform", `translate(${frame.left},0)`)
    .call(d3.axisLeft(y).tickValues(powers(y)).tickFormat(micro)
      .tickSize(-(width - frame.left - frame.right)).tickPadding(8));
  svg.append("text").attr("class", "soft").attr("text-anchor", "end")
    .attr("x", width - frame.right).attr("y", height - 6).text("threads");
  drawStopLines(svg, part, x, y);
  drawStopNames(svg, part, x, y);
}

// What the threads do, beside the points of one collector.
function drawStopNames(svg, part, x, y) {
  for (const [kind, count, anchor, shift] of [["running", 2, "start", 14],
      ["wait", 100, "end", -14], ["safe", 100, "end", -14]]) {
    const found = part.filter(one => one.kind === kind && one.count === count
      && one.collector !== "glibc");
    if (found.length > 0) {
      svg.append("text").attr("class", "soft").attr("text-anchor", anchor)
        .attr("x", x(count) + shift)
        .attr("y", d3.mean(found, one => y(one.value)) + 4)
        .text(STOP_KINDS.find(([name]) => name === kind)[1]);
    }
  }
}

// --- What weak things cost --------------------------------------------------

const COSTS = [["weak-get", "get_ns", "reading a weak reference",
                "a thousand of them, in the cache"],
               ["weak-get", "get_far_ns", "reading one at random",
                "all of them, in any order"],
               ["weak-get", "make_ns", "making one", "object included"],
               ["weak-clear", "clear_ns", "clearing one",
                "its whole collection, shared out"],
               ["finalizers", "register_ns", "setting a finalizer", ""],
               ["finalizers", "whole_ns", "a finalizer's whole life",
                "set, found due, called"],
               ["ephemerons", "put_ns", "putting an entry",
                "into a map with weak keys, object included"],
               ["ephemerons", "get_ns", "finding an entry", "by its key"],
               ["ephemerons", "collect_ns", "collecting an entry",
                "half of them with dead keys"],
               ["ephemeron-chain", "chain_ns", "an ephemeron in a chain",
                "each value the next key"]];

function drawCosts() {
  const rows = COSTS.map(([name, field, text, about]) => ({text, about,
    dots: ["std", "bdwgc", "loam"].map(collector => {
      const row = rowOf(benchOf(name), collector);
      return row && {collector, text, value: median(row, field)};
    }).filter(dot => dot && dot.value > 0)})).filter(row => row.dots.length);
  if (rows.length === 0) {
    return;
  }
  const holder = openSection("#costs", "Weak references, finalizers, " +
    "ephemerons", "Nanoseconds each. libgc has no ephemerons: its map is a " +
    "hash table whose keys are hidden behind disappearing links.");
  legend(holder, ["loam", "bdwgc", "std"].map(collector =>
    ({collector, text: NAMES[collector]})));
  const left = 320, width = 1128, step = 38, top = 26;
  const height = top + rows.length * step + 18;
  const all = rows.map(row => row.dots).flat();
  const x = d3.scaleLog().range([left, width - 40])
    .domain([d3.min(all, dot => dot.value) * 0.7,
             d3.max(all, dot => dot.value) * 1.4]);
  const ticks = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]
    .filter(tick => tick >= x.domain()[0] && tick <= x.domain()[1]);
  const svg = holder.append("div").attr("class", "panel").append("svg")
    .attr("viewBox", `0 0 ${width} ${height}`).attr("width", "100%");
  svg.append("g").attr("transform", `translate(0,${height - 24})`)
    .call(d3.axisBottom(x).tickValues(ticks).tickFormat(d3.format("~g"))
      .tickSize(-(height - 32)).tickPadding(8));
  const line = svg.selectAll("g.cost").data(rows).join("g")
    .attr("transform", (row, at) => `translate(0,${top + at * step})`);
  line.append("text").attr("y", 0).text(row => row.text);
  line.append("text").attr("class", "soft").attr("y", 14)
    .text(row => row.about);
  line.append("line").attr("x1", left).attr("x2", width - 40).attr("y1", 3)
    .attr("y2", 3).attr("stroke", "var(--line)");
  const dot = line.selectAll("circle").data(row => row.dots).join("circle")
    .attr("cx", one => x(one.value)).attr("cy", 3).attr("r", 5.4)
    .attr("fill", one => color(one.collector)).attr("stroke", "var(--card)");
  hover(dot, one => `${one.text}\n${NAMES[one.collector]}: ` +
    `${figure(one.value)} ns`);
  line.selectAll("text.value").data(row => row.dots).join("text")
    .attr("class", "soft number").attr("text-anchor", "middle")
    .attr("y", (one, at, nodes) => d3.selectAll(nodes).data().some(other =>
      other.value < one.value && x(one.value) - x(other.value) < 34) ? 20 : -7)
    .attr("x", one => x(one.value)).text(one => figure(one.value));
}
