// What does this stream look like? The list to choose from, and the chosen stream as a picture and as tables.

import { $, attribute, body, element, head, keyed, write } from "./dom.js";
import { Chart } from "./charts.js";
import { frame, paint, picture } from "./fan.js";
import * as format from "./format.js";

const PREFIX = "#stream=";
const ROWS = 30; // of the table of last values
const STILL_MS = 5000; // for which the list keeps its order after a pointer moved in it, or a key

// ---- the choice, which lives in the address

export function chosen() {
  if (!location.hash.startsWith(PREFIX)) return null;
  try {
    return decodeURIComponent(location.hash.slice(PREFIX.length));
  } catch {
    return null;
  }
}

const fragment = (name) => PREFIX + encodeURIComponent(name);

export function listAddress() {
  const query = new URLSearchParams({ sort: $("sort").value, limit: "50" });
  if ($("search").value) query.set("search", $("search").value);
  return `api/streams?${query}`;
}

// Of the earlier forecasts only those that are drawn are asked for, once it is known what there is to choose from.
export function streamAddress() {
  const horizon = $("horizon").value;
  return chosen() === null ? null : `api/streams/${encodeURIComponent(chosen())}${horizon ? `?horizon=${horizon}` : ""}`;
}

// ---- the list

let listed = ""; // the question that the list on the page answers
let touched = -STILL_MS; // when somebody did something in the list: nothing moves away under a pointer or a key then

for (const act of ["pointermove", "pointerdown", "wheel", "keydown", "keyup"]) {
  $("streams").addEventListener(act, () => (touched = performance.now()), { passive: true });
}

export function showList({ streams, found, remembered, holds }) {
  if (chosen() === null && streams.length) {
    history.replaceState(null, "", fragment(streams[0].stream));
    dispatchEvent(new HashChangeEvent("hashchange"));
  }
  write($("found"), foundWords(streams.length, found, remembered, holds));
  const list = $("streams");
  const still = listed === listAddress() && performance.now() - touched < STILL_MS;
  const shown = still ? kept(list, streams) : streams;
  listed = listAddress();
  keyed(list, shown, keyOf, entry, update);
  if (!still) bringIntoView(list);
}

const keyOf = (one) => `${one.partition} ${one.stream}`; // a name may have come from two partitions

let brought = null; // the stream that the list was last moved to

// A stream that the address has chosen may lie further down in the list: the list moves there once, the page stays.
function bringIntoView(list) {
  const button = list.querySelector("[aria-current=true]");
  if (!button || brought === chosen()) return;
  brought = chosen();
  const [at, frame] = [button.getBoundingClientRect(), list.getBoundingClientRect()];
  if (at.top < frame.top || at.bottom > frame.bottom) list.scrollTop += at.top - frame.top;
}

export function refuseList(sentence) {
  write($("found"), sentence);
}

// The streams that the list has already, in its order; one that has no news keeps what it had.
function kept(list, streams) {
  const news = new Map(streams.map((one) => [keyOf(one), one]));
  return [...list.children].map((node) => news.get(node.key) ?? node.stream);
}

function foundWords(shown, found, remembered, holds) {
  const few = shown < found ? `, the first ${shown} are listed` : "";
  const of = holds.of > holds.partitions.length ? `; it holds ${holds.partitions.length} of ${holds.of} partitions` : "";
  return `${format.plural(found, "stream")} of ${format.whole(remembered)} that this worker remembers${few}${of}`;
}

function entry(one) {
  const button = element("button", { type: "button" }, element("bdi"), element("small"));
  button.addEventListener("click", () => (location.hash = fragment(one.stream)));
  return element("li", {}, button);
}

function update(node, one) {
  node.stream = one;
  const [button] = node.children;
  write(button.firstChild, one.stream);
  attribute(button, "aria-current", one.stream === chosen() ? "true" : null);
  const outside = one.outside >= 0.5 ? `, ${format.whole(one.outside)} outside` : "";
  write(button.lastChild, `skill ${format.signed(one.skill)}${outside}, ${format.lately(one.time)}`);
}

export function markChosen() {
  for (const node of $("streams").children) update(node, node.stream);
}

// Arrow keys go through the list.
$("streams").addEventListener("keydown", (event) => {
  const item = event.target.closest("li");
  const next = { ArrowDown: item?.nextElementSibling, ArrowUp: item?.previousElementSibling }[event.key];
  if (!next) return;
  event.preventDefault();
  next.firstChild.focus();
});
$("pick").addEventListener("submit", (event) => event.preventDefault());

// ---- the stream

const chart = new Chart($("chart-stream"), { paint });

export function showStream(stream) {
  if (stream.stream !== chosen()) return;
  write($("name"), stream.stream);
  write($("summary"), summary(stream));
  chooseHorizon(stream.horizons);
  const horizon = $("horizon").value;
  frame(stream);
  chart.draw(...picture(stream, horizon));
  write($("notes"), notes(stream));
  showForecast(stream);
  showValues(stream, horizon);
  showExperts(stream);
}

export function refuseStream(sentence) {
  chooseHorizon([]); // another worker may have others
  write($("name"), chosen() ?? "no stream yet");
  write($("summary"), sentence);
  frame(null);
  chart.draw([], [], { gist: "Nothing to draw", empty: "nothing to draw" });
  write($("notes"), "");
  for (const id of ["table-stream", "table-forecast", "experts"]) body($(id), []);
}

function chooseHorizon(horizons) {
  const make = (h) => element("option", { value: h });
  keyed($("horizon"), horizons, (h) => h, make, (node, h) => write(node, `${format.plural(h, "event")} before`));
  $("choose-horizon").hidden = !horizons.length;
}

function summary({ partition, partitions, events, skills, horizons }) {
  const skill = horizons.map((h) => `${format.signed(skills[h])} at ${h}`).join(", ");
  const also = partitions.length > 1 ? `; events of this name came from partitions ${format.list(partitions.map(String))}` : "";
  return `Partition ${partition}${also}. ${format.plural(events, "event")} remembered. Skill by events ahead: ${skill}.`;
}

// What was left out of the picture, and why.
function notes({ gaps, drops, last_drops, outside, values }) {
  const strange = outside.filter(Boolean).length;
  const told = [`${format.whole(strange)} of the last ${format.plural(values.length, "value")} lay outside the interval.`];
  for (const why of ["silent", "not remembered"]) {
    const of = gaps.filter((gap) => gap.why === why);
    if (!of.length) continue;
    const { from, to } = of.at(-1);
    told.push(`${format.plural(of.length, "gap")} (${why}), the last one from ${format.time(from)} to ${format.time(to)}.`);
  }
  const reasons = Object.entries(drops).map(([reason, n]) => `${format.whole(n)} ${named(reason)}`);
  told.push(reasons.length ? `Dropped without a forecast: ${format.list(reasons)}.` : "Nothing was dropped.");
  const drop = last_drops.at(-1);
  if (drop) told.push(`The last of these is of ${format.time(drop.time)}: ${named(drop.reason)}, value ${format.number(drop.value)}.`);
  return told.join(" ");
}

const named = (reason) => reason.replaceAll("_", " ");

const interval = (low, high) => (low === null ? "–" : `${format.number(low)} to ${format.number(high)}`);

function showForecast({ forecast, levels }) {
  const quantiles = Object.values(forecast.quantiles);
  head($("table-forecast"), ["For", "Events ahead", "Mean", ...levels.map((level) => `Interval of ${format.level(level)}`)]);
  body(
    $("table-forecast"),
    forecast.horizons.map((h, j) => [
      forecast.times ? format.time(forecast.times[j]) : "not known yet",
      format.whole(h),
      format.number(forecast.mean[j]),
      ...levels.map((_, k) => interval(quantiles[k][j], quantiles.at(-1 - k)[j])),
    ]),
  );
}

function showValues({ times, values, outside, earlier }, horizon) {
  const { mean, low, high } = earlier[horizon];
  const before = `${format.plural(Number(horizon), "event")} before`;
  head($("table-stream"), ["Time", "Value", `Forecast ${before}`, "Its widest interval", "Value is"]);
  const rows = times.map((ms, i) => [
    format.time(ms),
    format.number(values[i]),
    format.number(mean[i]),
    interval(low[i], high[i]),
    outside[i] ? { words: "outside", mark: "bad" } : outside[i] === null ? "–" : "inside",
  ]);
  body($("table-stream"), rows.slice(-ROWS).reverse());
}

function showExperts({ experts, horizons }) {
  $("mixture").hidden = !experts;
  if (!experts) return;
  const names = Object.keys(experts[horizons[0]]);
  head($("experts"), ["Expert", ...horizons.map((h) => `${format.plural(h, "event")} ahead`)]);
  const cell = ({ forecast, weight }) => `${format.number(forecast)} (${format.percent(weight, 0)})`;
  body($("experts"), names.map((name) => [named(name), ...horizons.map((h) => cell(experts[h][name]))]));
}
