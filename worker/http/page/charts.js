// Charts over time, drawn by uPlot; where it is not there, its containers say so and the tables have the figures.

import { attribute, element, write } from "./dom.js";
import { clock, day, number } from "./format.js";

export const available = typeof globalThis.uPlot === "function";

const FONT = "12px system-ui, sans-serif";
const NO_SAMPLE = "the first sample comes ten seconds after the start";
const drawn = new Set();

let palette = {};

// The colour that the style sheet has of a name, in the theme of now.
export function colour(name) {
  return (palette[name] ??= getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
}

function drawAgain() {
  palette = {};
  for (const chart of drawn) chart.redraw();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAgain);

// Labels of the time axis: the day where it begins anew, the clock where steps are short.
function times(_, splits, __, ___, stepMs) {
  let before = "";
  return splits.map((ms) => {
    const today = day(ms);
    const newDay = today !== before;
    before = today;
    if (stepMs >= 86_400_000) return today.slice(2);
    const now = clock(ms, stepMs < 60_000);
    return newDay && stepMs >= 60_000 ? `${now}\n${today.slice(5)}` : now;
  });
}

function axes(format) {
  const line = { stroke: () => colour("grid"), width: 1 };
  const common = { stroke: () => colour("muted"), font: FONT, grid: line, ticks: { ...line, size: 4 } };
  return [
    { ...common, values: times, space: 70, size: 38 },
    { ...common, values: (_, splits) => splits.map(format), size: 52 },
  ];
}

// One line of a chart: `tone` and `fill` are names of colours, `dots` the size of a dot on each of its numbers.
function series({ tone, dash, fill, dots = 0, width = 1.5 }) {
  const stroke = () => colour(tone);
  return {
    stroke,
    fill: fill && (() => colour(fill)),
    dash,
    width,
    points: { show: dots > 0, size: dots, width: 0, stroke, fill: stroke },
    spanGaps: false,
  };
}

export class Chart {
  #container;
  #options;
  #legend;
  #lines = [];
  #plot = null;

  // `options`: range(u, min, max) of the y axis, format(number) of its labels, paint(u) over the drawing, sync: whether
  // the cursor stands at the same time in all such charts, words(line, index): what the legend says.
  constructor(container, options = {}) {
    this.#container = container;
    this.#options = options;
    this.#legend = element("ul", { class: "legend", "aria-hidden": "true" });
    container.after(this.#legend);
    if (!available) container.hidden = this.#legend.hidden = true;
    else new ResizeObserver(() => this.#resize()).observe(container);
  }

  // Draw `lines` ({label, tone, values, ...}) over `xs`, times in ms; `gist` is what a reader says of the picture,
  // `last` the newest time of what came from the worker.
  draw(xs, lines, { gist, last = xs.at(-1) ?? 0, bands = [], empty = NO_SAMPLE }) {
    attribute(this.#container, "data-points", xs.length);
    attribute(this.#container, "data-last", last);
    attribute(this.#container, "aria-label", gist);
    attribute(this.#container, "data-empty", xs.length ? null : empty);
    if (!available) return;
    const same = this.#plot && JSON.stringify(shape(lines)) === JSON.stringify(shape(this.#lines));
    this.#lines = lines;
    const data = [xs, ...lines.map((line) => line.values)];
    if (same) this.#plot.setData(data);
    else this.#make(data, bands);
    const at = this.#plot.cursor.idx ?? null; // of before: after a restart there are fewer
    this.#say(at !== null && at < xs.length ? at : null);
  }

  redraw() {
    this.#plot?.redraw();
  }

  #make(data, bands) {
    if (this.#plot) this.#plot.destroy();
    drawn.delete(this);
    const { range, format = number, paint, sync } = this.#options;
    const cursor = { drag: { x: false, y: false }, y: false, points: { size: 5 } };
    this.#plot = new globalThis.uPlot(
      {
        ...this.#size(),
        ms: 1,
        padding: [10, 32, 0, 0],
        legend: { show: false },
        cursor: sync ? { ...cursor, sync: { key: sync } } : cursor,
        scales: { x: { time: true }, y: range ? { range } : {} },
        axes: axes(format),
        series: [{}, ...this.#lines.map(series)],
        bands,
        hooks: { draw: paint ? [paint] : [], setCursor: [(u) => this.#say(u.cursor.idx)] },
      },
      data,
      this.#container,
    );
    drawn.add(this);
    this.#legend.replaceChildren(...this.#lines.filter((line) => line.label).map(legendEntry));
  }

  // The legend has the numbers at the cursor, else the last ones.
  #say(index) {
    const named = this.#lines.filter((line) => line.label);
    named.forEach((line, i) => {
      const words = line.words ?? ((at) => (this.#options.format ?? number)(line.values[at]));
      const at = index ?? line.values.findLastIndex((value) => value !== null);
      const entry = this.#legend.children[i];
      if (entry) write(entry.lastChild, at < 0 || line.words === null ? "" : words(at));
    });
  }

  #size() {
    return { width: Math.max(200, this.#container.clientWidth), height: this.#container.clientHeight || 200 };
  }

  #resize() {
    const { width, height } = this.#size();
    if (this.#plot && (this.#plot.width !== width || this.#plot.height !== height)) this.#plot.setSize({ width, height });
  }
}

const shape = (lines) => lines.map(({ values, words, ...rest }) => rest);

function legendEntry({ label, tone, dash, fill, swatch: area }) {
  const kind = area ?? fill ? "filled" : dash ? "dashed" : "line";
  const swatch = element("span", { class: `swatch ${kind}` });
  swatch.style.setProperty("--tone", `var(--${area ?? fill ?? tone})`);
  return element("li", {}, swatch, element("span", {}, label), " ", element("b"));
}
