// The picture of a stream: its values, what was forecast of them, and the fan of the forecast from now.

import { colour } from "./charts.js";
import * as format from "./format.js";

let framed = null; // the stream whose gaps and whose now are painted

export function frame(stream) {
  framed = stream;
}

// Gaps as grey columns, a line where the forecast begins, and a cross for each event that was dropped.
export function paint(u) {
  if (!framed) return;
  const { ctx, bbox } = u;
  const left = (ms) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, u.valToPos(ms, "x", true)));
  ctx.save();
  ctx.globalCompositeOperation = "destination-over";
  ctx.fillStyle = colour("gap");
  for (const { from, to } of framed.gaps) ctx.fillRect(left(from), bbox.top, left(to) - left(from), bbox.height);
  ctx.globalCompositeOperation = "source-over";
  ctx.fillStyle = colour("muted");
  ctx.fillRect(left(framed.forecast.time), bbox.top, devicePixelRatio || 1, bbox.height);
  for (const drop of framed.last_drops) cross(u, drop);
  ctx.restore();
}

// At its value, or at the edge where that is not in the picture or not known.
function cross({ ctx, bbox, valToPos }, { time, value }) {
  const x = valToPos(time, "x", true);
  if (x < bbox.left || x > bbox.left + bbox.width) return;
  const arm = 4 * (devicePixelRatio || 1);
  const foot = bbox.top + bbox.height - arm;
  const y = value === null ? foot : Math.min(foot, Math.max(bbox.top + arm, valToPos(value, "y", true)));
  ctx.strokeStyle = colour("c4");
  ctx.lineWidth = 2 * (devicePixelRatio || 1);
  ctx.beginPath();
  for (const slope of [1, -1]) {
    ctx.moveTo(x - arm, y - slope * arm);
    ctx.lineTo(x + arm, y + slope * arm);
  }
  ctx.stroke();
}

// Times of the picture: of the events, of a break in the middle of each gap, and of what is forecast.
function places({ times, gaps, forecast }) {
  const before = new Map(gaps.map(({ from, to }) => [from, (from + to) / 2]));
  const breaks = (ms, event) => before.has(ms) && times[event + 1] !== ms; // after the last of equal times
  const all = times.flatMap((ms, event) => [{ ms, event }, ...(breaks(ms, event) ? [{ ms: before.get(ms) }] : [])]);
  if (!all.length || all.at(-1).ms < forecast.time) all.push({ ms: forecast.time });
  all.at(-1).now = true;
  return [...all, ...(forecast.times ?? []).map((ms, ahead) => ({ ms, ahead }))];
}

// What `Chart.draw` takes: times, lines and words, with what was forecast `horizon` events before over the values.
export function picture(stream, horizon) {
  const { forecast, levels, outside, values } = stream;
  const all = places(stream);
  const ofEvents = (curve) => all.map(({ event }) => (event === undefined ? null : (curve[event] ?? null)));
  const fromNow = (curve) => all.map(({ ahead, now }) => (now ? forecast.value : (curve[ahead] ?? null)));
  const curves = stream.earlier[horizon];
  const before = `${format.plural(Number(horizon), "event")} before`;
  const lines = [];
  const bands = [];
  const band = (high, low, fill, label, words) => {
    lines.push({ label, tone: fill, width: 0, values: high, words, swatch: fill });
    lines.push({ tone: fill, width: 0, values: low });
    bands.push({ series: [lines.length - 1, lines.length], fill: () => colour(fill) });
  };
  const within = (high, low) => (at) => `${format.number(low[at])} to ${format.number(high[at])}`;
  const between = (high, low, fill, label) => band(high, low, fill, label, within(high, low));
  const edges = (quantiles, k, curve) => [quantiles.at(-1 - k), quantiles[k]].map(curve); // high, low
  const quantilesBefore = [curves.low, ...Object.values(curves.inner), curves.high];
  levels.forEach((level, k) => {
    between(...edges(quantilesBefore, k, ofEvents), "band-earlier", `${format.level(level)} interval of ${before}`);
  });
  const quantiles = Object.values(forecast.quantiles);
  levels.forEach((level, k) => {
    between(...edges(quantiles, k, fromNow), k ? "fan-inner" : "fan-outer", `${format.level(level)} interval from now`);
  });
  lines.push({ label: `forecast ${before}`, tone: "c2", dash: [4, 3], values: ofEvents(curves.mean) });
  lines.push({ label: "forecast from now", tone: "c3", width: 2, dots: 4, values: fromNow(forecast.mean) });
  lines.push({ label: "value", tone: "ink", width: 1.5, dots: values.length < 60 ? 4 : 0, values: ofEvents(values) });
  const strange = ofEvents(values.map((value, i) => (outside[i] ? value : null)));
  lines.push({ label: "outside", tone: "bad", width: 0, dots: 8, values: strange, words: null });
  if (stream.last_drops.length) lines.push({ label: "dropped", tone: "c4", values: ofEvents([]), words: null });
  return [all.map(({ ms }) => ms), lines, { gist: gist(stream), last: stream.times.at(-1) ?? 0, bands }];
}

function gist({ stream, times, values, outside, forecast, levels }) {
  if (!times.length) return "No value is remembered";
  const ahead = forecast.horizons.length - 1;
  const quantiles = Object.values(forecast.quantiles);
  return `${format.plural(values.length, "value")} of ${stream} up to ${format.time(times.at(-1))}, from `
    + `${format.number(Math.min(...values))} to ${format.number(Math.max(...values))}, the last one ${format.number(values.at(-1))}; `
    + `${format.whole(outside.filter(Boolean).length)} lay outside. ${format.plural(forecast.horizons[ahead], "event")} ahead the `
    + `forecast is ${format.number(forecast.mean[ahead])}, within ${format.number(quantiles[0][ahead])} to `
    + `${format.number(quantiles.at(-1)[ahead])} in ${format.level(levels[0])} of cases`;
}
