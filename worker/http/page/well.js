// Is it well? Phases, rates, lag, latency, snapshots, restores and errors.

import { $, attribute, body, element, figures, keyed, write } from "./dom.js";
import { Chart } from "./charts.js";
import * as format from "./format.js";

// From the bottom of the picture to its top.
const PHASES = ["commit", "publish", "advance", "decode", "poll", "restore", "snapshot", "offer", "adopt", "idle"];
const CALM_MS = 600_000; // after so long an error is of the past

const share = (_, __, highest) => [0, Math.max(1, highest)];
const upward = (_, __, highest) => [0, highest > 0 ? 1.1 * highest : 1];

const charts = {
  phases: new Chart($("chart-phases"), { range: () => [0, 100], format: (x) => `${x.toFixed(0)} %`, sync: "hour" }),
  events: new Chart($("chart-events"), { range: upward, sync: "hour" }),
  lag: new Chart($("chart-lag"), { range: share, sync: "hour" }),
  latency: new Chart($("chart-latency"), { range: upward, sync: "hour" }),
};

// ---- the status, about once a second

let before = null; // the events there had been, and when

function eventsPerSecond(status) {
  const now = { events: status.events, at: performance.now() };
  const spent = before ? (now.at - before.at) / 1000 : 0;
  const same = before !== null && now.events === before.events;
  if (!before || now.events < before.events || spent > (same ? 3 : 0.9)) {
    const rate = before && spent > 0 && spent <= 30 ? Math.max(0, now.events - before.events) / spent : null;
    before = { ...now, rate: rate ?? before?.rate ?? null };
  }
  return before.rate;
}

const known = (numbers) => numbers.filter((x) => Number.isFinite(x));
const largest = (numbers) => (known(numbers).length ? Math.max(...known(numbers)) : null);

export function showStatus(status) {
  const held = Object.entries(status.partitions ?? {});
  const all = held.map(([, one]) => one);
  figures($("figures"), [
    ["Events", format.rate(eventsPerSecond(status), "events")],
    ["Latency p50", format.seconds(status.latency_s?.p50)],
    ["Latency p99", format.seconds(status.latency_s?.p99)],
    ["Furthest behind", format.seconds(largest(all.map((one) => one.behind_s)))],
    ["Lag, all partitions", `${format.whole(total(all.map((one) => one.lag)))} records`],
    ["Oldest snapshot", format.seconds(largest(all.filter((one) => one.replay_tail).map((one) => one.snapshot_age_s)))],
    ["Longest replay tail", `${format.whole(largest(all.map((one) => one.replay_tail)))} records`],
    ["Streams", format.whole(total(all.map((one) => one.streams)))],
    ["Memory of streams", format.bytes(status.state_bytes)],
    ["Dead letters", format.whole(status.dead_letters && sum(Object.values(status.dead_letters)))],
  ]);
  showPartitions(held, status.elsewhere);
}

const sum = (numbers) => known(numbers).reduce((a, b) => a + b, 0);

// Not known where one of them is not: better no lag than too little.
const total = (numbers) => (numbers.length && numbers.every(Number.isFinite) ? sum(numbers) : null);

function showPartitions(held, elsewhere) {
  const others = elsewhere?.length ? `(${format.plural(elsewhere.length, "other")} elsewhere)` : "";
  write($("elsewhere"), others);
  body(
    $("partitions"),
    held.map(([partition, one]) => [
      partition,
      { words: one.waits_for ? `${one.state}: ${one.waits_for}` : one.state, mark: one.state === "live" ? null : "bad" },
      restoreOf(partition, one.restore),
      format.whole(one.lag),
      format.seconds(one.behind_s),
      one.snapshot_age_s === undefined ? "–" : `${format.seconds(one.snapshot_age_s)} ago`,
      format.whole(one.replay_tail),
      format.whole(one.streams),
    ]),
  );
}

const bars = new Map(); // by partition

// How far a restore is: the changelog first, then the input up to where the group has committed.
function restoreOf(partition, restore) {
  if (restore === null) {
    bars.delete(partition);
    return "done";
  }
  if (!bars.has(partition)) bars.set(partition, element("span", {}, element("progress"), " ", element("span")));
  const bar = bars.get(partition);
  const whole = restore.total ? Math.min(1, restore.done / restore.total) : null;
  attribute(bar.firstChild, "max", 1);
  attribute(bar.firstChild, "value", whole);
  attribute(bar.firstChild, "aria-label", `restore of partition ${partition}`);
  write(bar.lastChild, whole === null ? `${restore.reads}…` : `${format.percent(whole, 0)} of the ${restore.reads}`);
  return bar;
}

// ---- the last hour

export function showHistory(history) {
  const { times, seconds } = history;
  const perSecond = (counts) => counts.map((count, i) => count / seconds[i]);
  showPhases(history);
  const events = perSecond(history.events);
  charts.events.draw(times, [{ label: "events/s", tone: "c1", fill: "c1-soft", values: events }], {
    gist: `Events per second over the last hour, ${format.number(events.at(-1))} at the end`,
  });
  showLag(history);
  showLatency(history);
  showErrors(history);
}

function showPhases({ times, seconds, phases }) {
  const sofar = times.map(() => 0);
  const lines = PHASES.map((name) => {
    const part = phases[name].map((spent, i) => (100 * spent) / seconds[i]);
    part.forEach((spent, i) => (sofar[i] += spent));
    const tone = `phase-${name}`;
    return { label: name, tone, fill: tone, width: 0, values: [...sofar], words: (i) => `${part[i].toFixed(1)} %` };
  });
  const busy = times.length ? 100 - (100 * phases.idle.at(-1)) / seconds.at(-1) : 0;
  charts.phases.draw(times, lines.reverse(), {
    gist: `The loop's time by phase over the last hour; at the end it was busy for ${busy.toFixed(0)} % of it`,
  });
}

function showLag({ times, lag }) {
  const worst = lag.worst_s;
  charts.lag.draw(times, [{ label: "seconds behind", tone: "c2", fill: "c2-soft", values: worst }], {
    gist: `Seconds that the worst partition is behind over the last hour, ${format.seconds(worst.at(-1))} at the end`,
  });
}

function showLatency({ times, latency_s }) {
  const [p50, p99] = [latency_s.p50, latency_s.p99].map((curve) => curve.map((s) => (s === null ? null : 1000 * s)));
  const lines = [
    { label: "p50", tone: "c1", values: p50 },
    { label: "p99", tone: "c2", values: p99 },
  ];
  const last = [p50, p99].map((curve) => format.number(curve.findLast((x) => x !== null)));
  charts.latency.draw(times, lines, {
    gist: `Latency over the last hour in milliseconds: half below ${last[0]}, 99 % below ${last[1]} at the end`,
  });
}

// What went wrong with the question itself stands where errors are looked for.
export function refuseHistory(error) {
  const time = Date.now();
  showErrors({ errors: [{ time, first: time, number: 1, partition: null, error, fix: "" }] });
}

function showErrors({ errors }) {
  const words = errors.toReversed().slice(0, 10).map((one) => ({ ...one, words: sentence(one), key: `${one.first} ${one.error}` }));
  if (!words.length) words.push({ key: "none", words: "none", time: 0 });
  keyed($("errors"), words, (one) => one.key, () => element("li"), (node, one) => {
    write(node, one.words);
    attribute(node, "class", Date.now() - one.time < CALM_MS ? "bad" : null);
  });
}

function sentence({ time, first, number, partition, error, fix }) {
  const often = number > 1 ? ` (${format.whole(number)} times since ${format.time(first)})` : "";
  const where = partition === null ? "" : `partition ${partition}: `;
  return `${format.time(time)}${often}: ${where}${error}${fix ? `; ${fix}` : ""}`;
}
