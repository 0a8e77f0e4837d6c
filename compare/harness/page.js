// The page of one comparison: draws `report`, which compare/run saved.

"use strict";

const NAMES = {loam: "Loam", bdwgc: "libgc", glibc: "glibc, freed by hand",
               mimalloc: "mimalloc, freed by hand",
               jemalloc: "jemalloc, freed by hand",
               leak: "glibc, never freed", bump: "bump, the floor",
               std: "C++, std::shared_ptr and weak_ptr", boost: "Boost",
               glib: "GLib", rcbox: "GLib's g_rc_box", rust: "Rust",
               python: "Python"};
const GROUPS = [["structure", "Structures"],
                ["small", "Small garbage"], ["list", "Growth"],
                ["library", "Real libraries, frees taken out"],
                ["threads", "Several threads"],
                ["weak", "Weak references, finalizers"],
                ["pause", "Pauses"], ["fork", "Children that collect"],
                ["mark", "Marking a live heap"]];
const SYMBOLS = {loam: d3.symbolCircle, bdwgc: d3.symbolCircle,
                 glibc: d3.symbolSquare, mimalloc: d3.symbolTriangle,
                 jemalloc: d3.symbolDiamond, leak: d3.symbolCross,
                 std: d3.symbolStar, glib: d3.symbolWye,
                 python: d3.symbolTriangle, boost: d3.symbolDiamond,
                 rcbox: d3.symbolSquare, rust: d3.symbolCross};
// Groups whose benchmarks are drawn as time against memory.
const CARDS = ["structure", "small", "library", "threads"];

// The path of a mark; `size` is its area in square pixels.
const shape = (type, size) => d3.symbol().type(type).size(size)();

const color = name => `var(--${name})`;
const fixed = (x, digits = 2) => x.toFixed(digits);
const figure = x => x >= 1000 ? d3.format(",.0f")(x) : d3.format(".3r")(x);
const mb = kb => kb / 1024;
const label = setting => setting === "default" ? "at its defaults"
  : setting === "markers" ? "with a marker for each core"
  : setting === "incremental" ? "in its incremental mode"
  : setting === "fit" ? "with a heap limit at libgc's memory"
  : `heap of ${setting.replace("x", " ×")} the live size`;

const benches = report.benches.filter(bench => bench.rows.length > 0);
const hasLoam = benches.some(
  bench => bench.rows.some(row => row.collector === "loam"));

// What is drawn of a row: medians and quartiles of time and of memory.
function summarize(bench, row) {
  const times = row.runs.map(run => run[bench.field])
    .filter(time => time !== undefined).sort(d3.ascending);
  const peaks = row.runs.map(run => mb(run.peak_rss_kb)).sort(d3.ascending);
  const last = row.runs[row.runs.length - 1] || {};
  return {bench, row, collector: row.collector, setting: row.setting, last,
          runs: times.length, ok: row.status === "ok" && times.length > 0,
          time: d3.median(times), low: d3.quantile(times, 0.25),
          high: d3.quantile(times, 0.75), peak: d3.median(peaks),
          peakLow: d3.quantile(peaks, 0.25),
          peakHigh: d3.quantile(peaks, 0.75)};
}
// What is drawn last lies on top: libgc and Loam.
const depth = point => ["bdwgc", "loam"].indexOf(point.collector);
const points = new Map(benches.map(bench => [bench,
  bench.rows.map(row => summarize(bench, row))
    .sort((a, b) => depth(a) - depth(b))]));
const pointOf = (bench, collector, setting = "default") =>
  points.get(bench).find(point => point.collector === collector
                         && point.setting === setting && point.ok);

// --- Tooltip ----------------------------------------------------------------

const tip = d3.select("#tip");

function hover(selection, text) {
  selection.attr("class", "mark")
    .on("mousemove", datum => {
      tip.style("opacity", 1).text(text(datum));
      const box = tip.node().getBoundingClientRect();
      const {clientX: x, clientY: y} = d3.event;
      tip.style("left", Math.min(x + 14, innerWidth - box.width - 8) + "px")
        .style("top", Math.min(y + 14, innerHeight - box.height - 8) + "px");
    })
    .on("mouseleave", () => tip.style("opacity", 0));
}

function describe(point) {
  const {bench, last} = point;
  const lines = [`${bench.name}: ${NAMES[point.collector]}`,
                 label(point.setting)];
  if (!point.ok) {
    return lines.concat(point.row.status).join("\n");
  }
  lines.push(`${figure(point.time)} ${bench.unit}` +
             ` (${figure(point.low)} to ${figure(point.high)},` +
             ` ${point.runs} runs)`);
  lines.push(`${figure(point.peak)} MB at its peak`);
  if (point.row.limit_bytes > 0) {
    lines.push(`heap limit ${figure(point.row.limit_bytes / 2 ** 20)} MB`);
  }
  if (last.collections > 0) {
    lines.push(`${last.collections} collections,` +
               ` ${figure(last.collect_ms)} ms in them`);
  }
  return lines.join("\n");
}

// --- Head -------------------------------------------------------------------

function geomean(values) {
  return Math.exp(d3.mean(values, Math.log));
}

function equalRatios(group) {
  return benches.filter(bench => bench.group === group && bench.verdict.equal)
    .map(bench => bench.verdict.equal.ratio);
}

function drawHead() {
  const machine = report.machine;
  const minutes = report.seconds / 60;
  d3.select("#lead").text(
    `The same programs, compiled once for each way of managing memory; with ` +
    `the collectors nothing is freed. ${benches.length} benchmarks, the ` +
    `${report.scale} suite, ${report.started.replace("T", " ")}, ` +
    `${fixed(minutes, 1)} minutes on ${machine.cpu} ` +
    `(${machine.cores} cores), commit ${machine.commit}.`);
  const tiles = [["library", "of libgc's time: real libraries"],
                 ["structure", "of libgc's time: structures"],
                 ["small", "of libgc's time: small garbage"],
                 ["threads", "of libgc's time: several threads"],
                 ["mark", "of libgc's time: marking"]]
    .map(([group, text]) => [equalRatios(group), text])
    .filter(([ratios]) => ratios.length > 0)
    .map(([ratios, text]) => [`${fixed(100 * geomean(ratios), 0)} %`,
      `${text}, geometric mean of ${ratios.length}, at equal memory`]);
  const met = report.reach.filter(row => row.state === "met").length;
  const known = report.reach.filter(row => row.state !== "not measured").length;
  if (known > 0) {
    tiles.push([`${met} of ${known}`, "targets of this step met"]);
  }
  const tile = d3.select("#headline").selectAll("div").data(tiles)
    .join("div").attr("class", "tile");
  tile.append("b").text(([value]) => value);
  tile.append("span").text(([, text]) => text);
}

// --- The strip of ratios ----------------------------------------------------

function stripRows() {
  const rows = [];
  for (const [group, title] of GROUPS) {
    const part = benches.filter(bench => bench.group === group &&
      (bench.verdict.equal || bench.verdict.defaults));
    if (part.length > 0) {
      rows.push({title, ratios: equalRatios(group)});
      part.forEach(bench => rows.push({bench,
        found: bench.verdict.equal || bench.verdict.defaults,
        equal: Boolean(bench.verdict.equal), over: bench.verdict.over}));
    }
  }
  return rows;
}

function memoryText(row) {
  const loam = pointOf(row.bench, "loam", row.equal ? row.found.loam
                       : "default");
  const libgc = pointOf(row.bench, "bdwgc", row.found.libgc);
  return loam && libgc ? `${figure(loam.peak)} / ${figure(libgc.peak)}` : "";
}

function drawStrip() {
  const rows = stripRows();
  if (rows.length === 0) {
    d3.select("#strip").text("Loam was not among the collectors of this run.");
    return;
  }
  const left = 216, right = 300, width = 1128, step = 23, top = 34;
  const height = top + rows.length * step + 8;
  const values = rows.filter(row => row.found).map(row => row.found);
  const x = d3.scaleLog()
    .domain([Math.min(0.2, d3.min(values, v => v.low) * 0.85),
             Math.max(1.6, d3.max(values, v => v.high) * 1.1)])
    .range([left, width - right]).clamp(true);
  const svg = d3.select("#strip").append("svg").attr("width", "100%")
    .attr("viewBox", `0 0 ${width} ${height}`);
  const shade = (from, to, fill) => svg.append("rect").attr("x", x(from))
    .attr("width", x(to) - x(from)).attr("y", top - 6)
    .attr("height", height - top).attr("fill", fill);
  shade(x.domain()[0], 1, "var(--better)");
  shade(1, x.domain()[1], "var(--worse)");
  const ticks = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5]
    .filter(tick => tick >= x.domain()[0] && tick <= x.domain()[1]);
  svg.append("g").attr("transform", `translate(0,${top - 6})`)
    .call(d3.axisTop(x).tickValues(ticks).tickFormat(tick => `${tick}`)
      .tickSize(-(height - top)));
  svg.append("line").attr("x1", x(1)).attr("x2", x(1)).attr("y1", top - 6)
    .attr("y2", height - 6).attr("stroke", "var(--soft)");
  const heads = [[width - right + 24, "Loam / libgc", "start"],
                 [width - right + 192, "peak MB", "start"]];
  heads.forEach(([at, text]) => svg.append("text").attr("class", "soft")
    .attr("x", at).attr("y", top - 14).text(text));
  const line = svg.selectAll("g.row").data(rows).join("g")
    .attr("transform", (row, at) => `translate(0,${top + at * step + 8})`);
  drawStripGroups(line.filter(row => row.title), x, width - right);
  drawStripBenches(line.filter(row => row.bench), x, width - right);
}

function drawStripGroups(line, x, edge) {
  line.append("text").attr("class", "group").attr("y", 5)
    .text(row => row.title);
  const some = line.filter(row => row.ratios.length > 0);
  some.append("path").attr("d", shape(d3.symbolDiamond, 110))
    .attr("transform", row => `translate(${x(geomean(row.ratios))},1)`)
    .attr("fill", "none").attr("stroke", color("loam"))
    .attr("stroke-width", 1.8);
  some.append("text").attr("class", "group number").attr("y", 5)
    .attr("x", edge + 24)
    .text(row => `${fixed(geomean(row.ratios))} geometric mean`);
}

function drawStripBenches(line, x, edge) {
  line.append("text").attr("x", 14).attr("y", 5).text(row => row.bench.name);
  line.filter(row => row.over.length > 1).append("rect")
    .attr("x", row => x(d3.min(row.over, v => v.ratio)))
    .attr("width", row => x(d3.max(row.over, v => v.ratio)) -
          x(d3.min(row.over, v => v.ratio)))
    .attr("y", -5).attr("height", 12).attr("rx", 6)
    .attr("fill", color("loam")).attr("opacity", 0.17);
  line.append("line").attr("x1", row => x(row.found.low))
    .attr("x2", row => x(row.found.high)).attr("y1", 1).attr("y2", 1)
    .attr("stroke", color("loam")).attr("stroke-width", 2.4)
    .attr("stroke-linecap", "round");
  const dot = line.append("circle").attr("cx", row => x(row.found.ratio))
    .attr("cy", 1).attr("r", 4.6).attr("stroke", color("loam"))
    .attr("stroke-width", 1.8)
    .attr("fill", row => row.equal ? color("loam") : "var(--card)");
  hover(dot, row => `${row.bench.name}: ${row.bench.about}\n` +
    `${fixed(row.found.ratio, 3)} of libgc's time, 95 % interval ` +
    `${fixed(row.found.low)} to ${fixed(row.found.high)}\n` +
    (row.equal ? `Loam ${label(row.found.loam)}, in no more memory than ` +
      "libgc at its defaults"
      : "both at their defaults; Loam took more memory"));
  line.append("text").attr("class", "number").attr("x", edge + 24)
    .attr("y", 5).text(row => `${fixed(row.found.ratio)}  ` +
      `[${fixed(row.found.low)}, ${fixed(row.found.high)}]` +
      (row.equal ? "" : " *"));
  line.append("text").attr("class", "number soft").attr("x", edge + 192)
    .attr("y", 5).text(memoryText);
}

// --- Small multiples --------------------------------------------------------

function drawLegend() {
  const used = Object.keys(NAMES).filter(name => benches.some(
    bench => CARDS.includes(bench.group) && bench.rows.some(row => row.collector === name)));
  const item = d3.select("#legend").selectAll("span").data(used).join("span");
  const svg = item.append("svg").attr("width", 22).attr("height", 14)
    .append("g").attr("transform", "translate(11,7)");
  svg.filter(name => name === "bump" || name === "loam" || name === "bdwgc")
    .append("line").attr("x1", -11).attr("x2", 11).attr("stroke", color)
    .attr("stroke-width", 1.6)
    .attr("stroke-dasharray", name => name === "bump" ? "4 3" : null);
  svg.filter(name => name !== "bump").append("path").attr("fill", color)
    .attr("d", name => shape(SYMBOLS[name], 56));
  item.append("span").text(name => NAMES[name]);
}

function drawCharts() {
  const holder = d3.select("#charts");
  for (const [group, title] of GROUPS) {
    const part = benches.filter(bench => bench.group === group ||
      (group === "small" && bench.group === "list"));
    if (part.length > 0 && CARDS.includes(group)) {
      holder.append("h3").attr("class", "wide")
        .text(group === "small" ? "Small garbage, and growth" : title);
      part.forEach(bench => drawCard(holder.append("div")
        .attr("class", "card"), bench));
    }
  }
}

function drawCard(card, bench) {
  const title = card.append("h4");
  title.append("span").text(bench.name);
  if (bench.verdict.equal) {
    title.append("em").text(`${fixed(bench.verdict.equal.ratio)} ×`);
  }
  card.append("p").text(bench.about).attr("title", bench.about);
  const width = 262, height = 190;
  const frame = {left: 40, right: 10, top: 8, bottom: 34};
  const svg = card.append("svg").attr("viewBox", `0 0 ${width} ${height}`)
    .attr("width", "100%");
  const ok = points.get(bench).filter(point => point.ok);
  const shown = ok.filter(point => point.collector !== "bump");
  const core = shown.filter(point => point.collector !== "leak");
  if (core.length === 0) {
    return;
  }
  const x = d3.scaleLinear()
    .domain([0, d3.max(core, point => point.peakHigh) * 1.08])
    .range([frame.left, width - frame.right]).nice(5);
  const y = d3.scaleLinear()
    .domain([0, d3.max(core, point => point.high) * 1.08])
    .range([height - frame.bottom, frame.top]).nice(4);
  drawAxes(svg, x, y, {width, height, frame}, bench);
  drawFloor(svg, x, y, ok.find(point => point.collector === "bump"));
  const inside = shown.filter(point => point.peak <= x.domain()[1] &&
                              point.time <= y.domain()[1]);
  for (const name of ["bdwgc", "loam"]) {
    drawPath(svg, x, y, inside.filter(point => point.collector === name));
  }
  drawPoints(svg, x, y, inside);
  drawFailures(svg, x, y, points.get(bench).filter(point => !point.ok &&
    point.row.limit_bytes > 0));
}

function drawAxes(svg, x, y, {width, height, frame}, bench) {
  svg.append("g").attr("transform", `translate(0,${height - frame.bottom})`)
    .call(d3.axisBottom(x).ticks(5)
      .tickSize(-(height - frame.bottom - frame.top)).tickPadding(6));
  svg.append("g").attr("transform", `translate(${frame.left},0)`)
    .call(d3.axisLeft(y).ticks(4).tickPadding(6)
      .tickSize(-(width - frame.left - frame.right)));
  svg.append("text").attr("class", "soft").attr("text-anchor", "end")
    .attr("x", width - frame.right).attr("y", height - 5).text("peak MB");
  svg.append("text").attr("class", "soft").attr("x", 2)
    .attr("y", height - 5).text(bench.unit === "ms"
      ? (report.clock === "cpu" ? "CPU ms" : "ms") : bench.unit);
}

function drawFloor(svg, x, y, floor) {
  if (floor === undefined || floor.time > y.domain()[1]) {
    return;
  }
  const line = svg.append("line").datum(floor).attr("x1", x.range()[0])
    .attr("x2", x.range()[1]).attr("y1", y(floor.time))
    .attr("y2", y(floor.time)).attr("stroke", color("bump"))
    .attr("stroke-width", 1.6).attr("stroke-dasharray", "4 3");
  hover(line, describe);
}

function drawPath(svg, x, y, part) {
  const line = d3.line().x(point => x(point.peak)).y(point => y(point.time));
  svg.append("path").attr("fill", "none")
    .attr("d", line(part.slice().sort((a, b) => a.peak - b.peak)))
    .attr("stroke", part.length > 0 ? color(part[0].collector) : null)
    .attr("stroke-width", 1.5).attr("opacity", 0.55);
}

function drawPoints(svg, x, y, part) {
  const group = svg.selectAll("g.point").data(part).join("g");
  const whisker = (x1, x2, y1, y2) => group.append("line")
    .attr("x1", x1).attr("x2", x2).attr("y1", y1).attr("y2", y2)
    .attr("stroke", point => color(point.collector)).attr("stroke-width", 1.3)
    .attr("opacity", 0.7);
  whisker(p => x(p.peak), p => x(p.peak), p => y(p.low), p => y(p.high));
  whisker(p => x(p.peakLow), p => x(p.peakHigh), p => y(p.time),
          p => y(p.time));
  const main = point => point.collector === "loam" ||
    point.collector === "bdwgc";
  const mark = group.append("path")
    .attr("d", point => shape(SYMBOLS[point.collector],
      main(point) ? (point.setting === "default" ? 84 : 40) : 46))
    .attr("transform", point => `translate(${x(point.peak)},${y(point.time)})`)
    .attr("fill", point => color(point.collector))
    .attr("stroke", "var(--card)").attr("stroke-width", 1)
    .attr("opacity", point => main(point) ? 1 : 0.85);
  hover(mark, describe);
}

function drawFailures(svg, x, y, part) {
  const cross = svg.selectAll("path.failure").data(part).join("path")
    .attr("d", shape(d3.symbolCross, 42))
    .attr("transform", point => `translate(${x(Math.min(x.domain()[1],
      point.row.limit_bytes / 2 ** 20))},${y(0)}) rotate(45)`)
    .attr("fill", point => color(point.collector));
  hover(cross, describe);
}

// --- Dot plots: marking, footprint ------------------------------------------

function drawDots(holder, part, title, note, reference) {
  if (part.length === 0) {
    return;
  }
  holder.append("h2").text(title);
  holder.append("p").attr("class", "note").text(note);
  const left = 210, width = 1128, step = 42, top = 30;
  const height = top + part.length * step + 26;
  const all = part.map(bench => points.get(bench).filter(point => point.ok));
  const x = d3.scaleLinear().range([left, width - 24])
    .domain([Math.min(reference || 0, d3.min(all.flat(), point => point.low)),
             d3.max(all.flat(), point => point.high) * 1.04])
    .nice();
  const svg = holder.append("div").attr("class", "panel").append("svg")
    .attr("viewBox", `0 0 ${width} ${height}`).attr("width", "100%");
  svg.append("g").attr("transform", `translate(0,${height - 24})`)
    .call(d3.axisBottom(x).ticks(8).tickSize(-(height - 24 - 8))
      .tickPadding(8));
  const line = svg.selectAll("g.bench").data(all).join("g")
    .attr("transform", (row, at) => `translate(0,${top + at * step})`);
  line.append("text").attr("y", -1)
    .text((row, at) => part[at].name.replace(/^[a-z]+-/, ""));
  line.append("text").attr("class", "soft").attr("y", 13)
    .text((row, at) => part[at].about.replace(/^marking a live heap /, ""));
  line.append("line").attr("x1", left).attr("x2", width - 24).attr("y1", 3)
    .attr("y2", 3).attr("stroke", "var(--line)");
  const dot = line.selectAll("path").data(row => row).join("path")
    .attr("d", point => shape(SYMBOLS[point.collector], 78))
    .attr("transform", point => `translate(${x(point.time)},3)`)
    .attr("fill", point => color(point.collector))
    .attr("stroke", "var(--card)");
  hover(dot, describe);
  line.selectAll("text.value").data(row => row.filter(
    point => point.collector === "loam" || point.collector === "bdwgc"))
    .join("text").attr("class", "soft number").attr("y", -7)
    .attr("x", point => x(point.time)).attr("text-anchor", "middle")
    .text(point => figure(point.time));
}

function drawAllDots() {
  const group = name => benches.filter(bench => bench.group === name);
  const holder = d3.select("#dots");
  drawDots(holder, group("mark"), "Marking a live heap",
           "Nanoseconds an object to find everything alive, in three orders " +
           "of the same objects in memory.");
  drawDots(holder, group("footprint"), "Memory held for what is asked",
           "Resident bytes gained, divided by bytes asked for, on a fresh " +
           "heap without garbage: 1.00 would be no waste.", 1);
}

// --- Tables -----------------------------------------------------------------

function drawReach() {
  if (report.reach.length === 0) {
    return;
  }
  const holder = d3.select("#reach");
  holder.append("h2").text("Targets of this step");
  if (report.scale !== "full") {
    holder.append("p").attr("class", "note").text("Claims are made from the " +
      "full suite; this one is smaller.");
  }
  const table = holder.append("div").attr("class", "panel").append("table");
  const row = table.selectAll("tr").data(report.reach).join("tr");
  row.append("td").text(found => found.target);
  row.append("td").text(found => found.figure);
  row.append("td").text(found => found.state)
    .attr("class", found => ({met: "met", "not met": "missed"}[found.state] ||
                             "unknown"));
}

function drawRows() {
  const table = d3.select("#rows").append("table");
  const heads = ["benchmark", "collector", "setting", "time", "quartiles",
                 "peak MB", "collections", "runs"];
  table.append("tr").selectAll("th").data(heads).join("th")
    .attr("class", (text, at) => at > 2 ? "right" : null).text(text => text);
  const cells = point => [point.bench.name, NAMES[point.collector],
    point.setting, ...(point.ok
      ? [`${figure(point.time)} ${point.bench.unit}`,
         `${figure(point.low)} to ${figure(point.high)}`, figure(point.peak),
         point.last.collections, point.runs]
      : [point.row.status, "", "", "", ""])];
  const all = benches.map(bench => points.get(bench)).flat();
  table.selectAll("tr.row").data(all).join("tr").selectAll("td").data(cells)
    .join("td").attr("class", (text, at) => at > 2 ? "right" : null)
    .text(text => text);
}

function drawMachine() {
  const machine = report.machine, holder = d3.select("#machine");
  const configs = new Set(benches.map(bench => bench.rows
    .map(row => row.config).filter(Boolean)).flat());
  const lines = [
    ["Command", report.command], ["Machine", `${machine.cpu}, ` +
      `${machine.cores} cores, ${d3.format(",")(machine.memory_mb)} MB, ` +
      `Linux ${machine.kernel}, huge pages ${machine.huge_pages}, load ` +
      `${fixed(report.load_before[0])} before and ` +
      `${fixed(report.load_after[0])} after`],
    ["Compiler", `${machine.compiler}, -O2 for every row`],
    ["Packages", Object.entries(machine.packages)
      .map(([name, version]) => `${name} ${version}`).join(", ")],
    ["Collectors", [...configs].join("; ")],
    ["Time", report.clock === "cpu" ? "CPU time of the whole process, user " +
      "and kernel, all threads, after start-up" : "wall time after start-up"],
    ["Memory", "the greatest resident size, as the kernel counts it"],
    ["Runs", "one discarded warm-up, then rounds in which every row runs " +
      "once, in a random order; medians; intervals by bootstrap"]];
  const row = holder.append("table").selectAll("tr").data(lines).join("tr");
  row.append("td").text(([name]) => name);
  row.append("td").append("code").text(([, text]) => text);
}

// --- Theme ------------------------------------------------------------------

const dark = /[#&]dark/.test(location.hash) ||
  (!/[#&]light/.test(location.hash) &&
   matchMedia("(prefers-color-scheme: dark)").matches);
document.documentElement.classList.toggle("dark", dark);
d3.select("#theme").on("click", () =>
  document.documentElement.classList.toggle("dark"));

drawHead();
drawStrip();
drawLegend();
drawCharts();
drawThreads();
drawPauses();
drawStops();
drawCosts();
drawCounted();
drawMalloc();
drawAllDots();
drawReach();
drawRows();
drawMachine();
