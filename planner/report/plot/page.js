"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const plot = document.getElementById("plot"), readout = document.getElementById("readout");
const runs = data.runs, unit = data.unit, both = runs.length === 2;
const end = Math.max(...runs.map(run => run.end));
const changes = [...new Set(runs.flatMap(run => [
  ...run.samples.map(s => s[0]), ...run.intervals.flatMap(i => [i[4], i[5]])]).concat(0, end))].sort((a, b) => a - b);
const LEFT = both ? 124 : 68, RIGHT = 14, DEVICE = 260, HOST = 96, LANE = 19, HEAD = 20;
const NS = "http://www.w3.org/2000/svg";
let from = 0, to = end, at = 0, width = 0;

const bytes = n => (n / unit.size).toFixed(unit.size === 1 ? 0 : 2) + " " + unit.name;
const time = (us, step) => {
  const span = step ?? end / 100;
  if (end >= 1e6) return (us / 1e6).toFixed(span >= 1e6 ? 0 : span >= 1e5 ? 1 : span >= 1e4 ? 2 : 3) + " s";
  if (end >= 1e3) return (us / 1e3).toFixed(span >= 1e3 ? 0 : span >= 100 ? 1 : 2) + " ms";
  return Math.round(us) + " µs";
};
const nice = (span, count) => {
  const raw = span / count, power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map(n => n * power).find(n => n >= raw);
};
const make = (name, attributes, parent, text) => {
  const made = document.createElementNS(NS, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  parent?.append(made);
  return made;
};
const x = t => LEFT + (t - from) / (to - from) * (width - LEFT - RIGHT);
// The last item of a sorted list that begins at or before t; -1 where none does.
const before = (list, t, start = item => item[0]) => {
  let low = 0, high = list.length;
  while (low < high) { const mid = (low + high) >> 1; if (start(list[mid]) <= t) low = mid + 1; else high = mid; }
  return low - 1;
};

// A stepped line. Changes that share a pixel are one vertical stroke to the largest, so that no peak is lost.
const steps = (run, key, y) => {
  const first = Math.max(0, before(run.samples, from)), parts = [];
  let pixel = null, most = 0, last = null;
  const flush = () => { if (last !== null) parts.push(`H${pixel}V${y(most).toFixed(1)}` + (most !== last ? `V${y(last).toFixed(1)}` : "")); };
  for (let n = first; n < run.samples.length && run.samples[n][0] <= to; n++) {
    const value = run.samples[n][key], place = Math.round(x(Math.max(from, run.samples[n][0])) * 2) / 2;
    if (place === pixel) { most = Math.max(most, value); last = value; continue; }
    flush();
    if (pixel === null) parts.push(`M${place} ${y(value).toFixed(1)}`);
    pixel = place; most = last = value;
  }
  flush();
  if (!parts.length) return null;
  const stop = x(Math.min(to, run.end));
  return { line: parts.join("") + `H${stop.toFixed(1)}`, stop };
};

const panel = (svg, top, height, levels, budget) => {
  const present = runs.filter(run => run.samples.length);
  const most = Math.max(1, ...present.flatMap(run => run.samples.map(s => Math.max(...levels.map(l => s[l.index])))));
  const ceiling = (budget && budget < most * 4 ? Math.max(most, budget) : most) * 1.08;
  const y = v => top + height - Math.min(v, ceiling) / ceiling * height;
  const step = nice(ceiling / unit.size, height / 50);
  for (let v = 0; v * unit.size <= ceiling; v += step) {
    const line = y(v * unit.size);
    make("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: line, y2: line }, svg);
    make("text", { x: LEFT - 6, y: line + 4, "text-anchor": "end" }, svg, `${+v.toFixed(3)} ${unit.name}`);
  }
  present.forEach((run, n) => {
    for (const level of levels) {
      const found = steps(run, level.index, y);
      if (!found) continue;
      if (n === 0) {
        const area = `${found.line}V${y(0)}H${x(Math.max(from, run.samples[0][0])).toFixed(1)}Z`;
        make("path", { d: area, fill: `var(--${level.key})`, class: `area ${level.key}-area` }, svg);
      } else {
        make("path", { d: found.line, class: "halo" }, svg);
        make("path", { d: found.line, class: "measured", stroke: `var(--${level.key}-line)` }, svg);
      }
    }
  });
  if (budget && budget <= ceiling) {
    make("line", { class: "budget", x1: LEFT, x2: width - RIGHT, y1: y(budget), y2: y(budget) }, svg);
    make("text", { class: "budget-text", x: width - RIGHT - 4, y: y(budget) - 5, "text-anchor": "end" }, svg, data.budgetText);
  } else if (budget) {
    make("text", { class: "budget-text", x: width - RIGHT - 4, y: top + 12, "text-anchor": "end" }, svg, `${data.budgetText}, above`);
  }
};

const clipped = (text, room, glyph = 6.2) => {
  const fits = Math.floor(room / glyph);
  return text.length <= fits ? text : fits >= 4 ? text.slice(0, fits - 1) + "…" : "";
};

const lane = (svg, run, name, top) => {
  make("text", { x: LEFT - 6, y: top + 13, "text-anchor": "end" }, svg, both ? `${name}, ${run.name}` : name);
  make("rect", { x: LEFT, y: top, width: Math.max(0, width - LEFT - RIGHT), height: LANE - 4, fill: "var(--block)" }, svg);
  let open = null;
  const draw = () => {
    if (!open) return;
    const wide = Math.max(.7, open.stop - open.start);
    make("rect", { class: `${name} edge`, x: open.start.toFixed(1), y: top, width: wide.toFixed(1), height: LANE - 4 }, svg);
    const text = open.many ? "" : clipped(open.name, wide - 6, 5.6);
    if (text) make("text", { class: "in", x: (open.start + 3).toFixed(1), y: top + 11.5 }, svg, text);
  };
  for (const i of run.intervals) {
    if (i[0] !== name || i[5] < from || i[4] > to) continue;
    const start = x(Math.max(from, i[4])), stop = x(Math.min(to, i[5]));
    // What is narrower than a pixel is drawn together with its neighbour.
    if (open && start - open.stop < .7 && (stop - start < 2 || open.stop - open.start < 2)) {
      open.stop = Math.max(open.stop, stop); open.many = true; continue;
    }
    draw();
    open = { start, stop, name: i[1], many: false };
  }
  draw();
};

const draw = () => {
  width = Math.max(320, plot.clientWidth);
  const lanes = runs.flatMap(run => run.lanes.map(name => [run, name]));
  const device = data.levels.filter(l => l.on === "device"), host = data.levels.filter(l => l.on === "host");
  const hosts = runs.some(run => run.samples.some(s => host.some(l => s[l.index] > 0)));
  const laneTop = HEAD + DEVICE + 14, hostTop = laneTop + lanes.length * LANE + 8;
  const bottom = hostTop + (hosts ? HOST + 4 : 0), height = bottom + 24;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
  const clip = make("clipPath", { id: "inside" }, svg);
  make("rect", { x: LEFT, y: 0, width: width - LEFT - RIGHT, height }, clip);
  runs[0].stages.forEach(([name, start, stop], n) => {
    if (stop < from || start > to) return;
    const a = x(Math.max(from, start)), b = x(Math.min(to, stop));
    if (n % 2 === 0) make("rect", { class: "band", x: a, y: 0, width: Math.max(1, b - a), height: bottom }, svg);
    make("text", { class: "stage", x: a + 3, y: 14 }, svg, clipped(name, b - a - 4, 6.8));
  });
  const step = nice(to - from, Math.max(2, width / 110));
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
    make("line", { class: "grid", x1: x(t), x2: x(t), y1: HEAD, y2: bottom }, svg);
    make("text", { x: x(t), y: bottom + 16, "text-anchor": "middle" }, svg, time(t, step));
  }
  panel(svg, HEAD, DEVICE, device, data.budget);
  lanes.forEach(([run, name], n) => lane(svg, run, name, laneTop + n * LANE));
  if (hosts) panel(svg, hostTop, HOST, host, null);
  make("line", { class: "cursor", id: "cursor", y1: 0, y2: bottom }, svg);
  plot.replaceChildren(svg);
  cursor();
};

const valueAt = (run, t) => t <= run.end ? run.samples[before(run.samples, t)] : undefined;
const stageAt = (run, t) => run.stages.find(([, start, stop]) => start <= t && t < stop)?.[0] ?? "";
const element = (name, text, parent, attributes = {}) => {
  const made = document.createElement(name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  made.textContent = text;
  parent?.append(made);
  return made;
};

const cursor = () => {
  const line = document.getElementById("cursor"), place = x(at);
  line.setAttribute("x1", place); line.setAttribute("x2", place);
  line.style.visibility = at < from || at > to ? "hidden" : "visible";
  const stage = runs.map(run => stageAt(run, at)).find(Boolean) ?? "";
  readout.replaceChildren();
  element("h2", time(at, end / 1e4) + (stage ? `, ${stage}` : ""), readout);
  const table = element("table", "", readout), head = element("tr", "", element("thead", "", table));
  element("th", "bytes", head, { class: "l", scope: "col" });
  for (const run of runs) element("th", run.name, head, { scope: "col" });
  if (both) element("th", "difference", head, { scope: "col" });
  const body = element("tbody", "", table), said = [];
  for (const level of data.levels) {
    const values = runs.map(run => valueAt(run, at)?.[level.index]);
    const row = element("tr", "", body), name = element("th", "", row, { class: "l", scope: "row" });
    element("span", "", name, { class: "chip", style: `background:var(--${level.key})` });
    name.append(level.name);
    values.forEach(v => element("td", v === undefined ? "" : bytes(v), row));
    if (both) element("td", values.includes(undefined) ? "" : (values[1] < values[0] ? "−" : "+") + bytes(Math.abs(values[1] - values[0])), row);
    values.forEach((v, n) => { if (v !== undefined) said.push(`${level.name}${both ? " " + runs[n].name : ""} ${bytes(v)}`); });
  }
  const list = element("ul", "", readout, { "aria-label": "At work" });
  for (const run of runs) for (const i of run.intervals) {
    if (i[4] > at || at >= i[5]) continue;
    const moved = i[6] ? `, ${bytes(i[6])}` : "";
    element("li", `${both ? run.name + " " : ""}${i[0]}: ${i[1]} (${time(i[4], end / 1e4)} to ${time(i[5], end / 1e4)}${moved})`.replace(/(\d) (?=\p{L})/gu, "$1\u00a0"), list);
  }
  plot.setAttribute("aria-valuemax", end);
  plot.setAttribute("aria-valuenow", Math.round(at));
  plot.setAttribute("aria-valuetext", `${time(at, end / 1e4)}${stage ? ", " + stage : ""}: ${said.join(", ")}`);
};

const move = t => {
  at = Math.min(end, Math.max(0, t));
  if (at < from || at > to) { const span = to - from; from = Math.min(end - span, Math.max(0, at - span / 2)); to = from + span; draw(); }
  else cursor();
};
const hop = number => {
  const here = before(changes, at, t => t), exact = changes[here] === at;
  const next = number > 0 ? here + number : here + number + (exact ? 0 : 1);
  move(changes[Math.min(changes.length - 1, Math.max(0, next))]);
};
const zoom = factor => {
  const span = Math.min(end, Math.max(Math.min(end, 20), (to - from) * factor)), part = (at - from) / (to - from);
  const anchor = part >= 0 && part <= 1 ? part : .5;
  const middle = from + anchor * (to - from);
  from = Math.min(end - span, Math.max(0, middle - anchor * span)); to = from + span;
  draw();
};
const all = () => { from = 0; to = end; draw(); };
const KEYS = {
  ArrowLeft: e => hop(e.shiftKey ? -10 : -1), ArrowRight: e => hop(e.shiftKey ? 10 : 1),
  Home: () => move(0), End: () => move(end), "+": () => zoom(.5), "=": () => zoom(.5), "-": () => zoom(2), "0": all,
};
plot.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key](event);
});
const pointed = event => from + (event.clientX - plot.getBoundingClientRect().left - LEFT) / (width - LEFT - RIGHT) * (to - from);
plot.addEventListener("pointermove", event => { at = Math.min(to, Math.max(from, pointed(event))); cursor(); });
plot.addEventListener("dblclick", all);
plot.addEventListener("wheel", event => {
  if (event.ctrlKey || event.metaKey) { event.preventDefault(); zoom(event.deltaY > 0 ? 1.25 : .8); }
  else if (event.deltaX && to - from < end) {
    event.preventDefault();
    const span = to - from;
    from = Math.min(end - span, Math.max(0, from + event.deltaX / width * span)); to = from + span; draw();
  }
}, { passive: false });
document.getElementById("in").onclick = () => zoom(.5);
document.getElementById("out").onclick = () => zoom(2);
document.getElementById("reset").onclick = all;

const legend = document.getElementById("legend");
for (const level of data.levels) {
  const item = element("li", "", legend);
  const swatch = make("svg", { width: both ? 26 : 12, height: 12, "aria-hidden": "true" }, item);
  make("rect", { width: 12, height: 12, rx: 2, fill: `var(--${level.key})` }, swatch);
  if (both) make("line", { x1: 14, x2: 26, y1: 6, y2: 6, stroke: `var(--${level.key}-line)`, "stroke-width": 2 }, swatch);
  item.append(level.name);
}
if (both) element("li", "areas: predicted, lines: measured", legend);
new ResizeObserver(() => { if (plot.clientWidth !== width) draw(); }).observe(plot);
draw();
document.documentElement.dataset.drawn = "yes";
})();
