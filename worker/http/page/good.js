// Is it any good? Skill against the last value, coverage, and what new weights did to them.

import { $, body, figures, head, write } from "./dom.js";
import { Chart, colour } from "./charts.js";
import * as format from "./format.js";

const TONES = ["c1", "c2", "c3", "c4", "c5", "c6"];
const tone = (i) => TONES[i % TONES.length];

let marks = [];

const charts = {
  skill: new Chart($("chart-skill"), { range: skillRange, format: (x) => (Number.isFinite(x) ? x.toFixed(2) : "–"), paint: paintSkill, sync: "hour" }),
  coverage: new Chart($("chart-coverage"), { range: coverageRange, format: (x) => (Number.isFinite(x) ? `${x.toFixed(0)} %` : "–"), sync: "hour" }),
  updates: new Chart($("chart-updates"), { range: (_, __, most) => [0, 1.1 * most || 1], sync: "hour" }),
};

// A young worker's skill may be far below zero; what is below -1 is cut off.
function skillRange(_, lowest, highest) {
  return [Math.min(0, Math.max(lowest, -1)) - 0.02, Math.min(1, Math.max(highest, 0.1)) + 0.02];
}

function coverageRange(_, lowest, highest) {
  return [Math.max(0, Math.min(lowest - 3, 70)), Math.min(102, Math.max(highest, 98) + 2)];
}

// The line of zero skill; adoptions as ticks at the foot, roll-backs across the whole picture.
function paintSkill(u) {
  const { ctx, bbox } = u;
  const ratio = devicePixelRatio || 1;
  const foot = bbox.top + bbox.height;
  ctx.save();
  ctx.lineWidth = 1.5 * ratio;
  const line = (tone, x0, y0, x1, y1, dash = []) => {
    ctx.setLineDash(dash.map((length) => length * ratio));
    ctx.strokeStyle = colour(tone);
    ctx.beginPath();
    ctx.moveTo(x0, y0);
    ctx.lineTo(x1, y1);
    ctx.stroke();
  };
  const zero = u.valToPos(0, "y", true);
  line("muted", bbox.left, zero, bbox.left + bbox.width, zero);
  for (const { time, kind } of marks) {
    const x = u.valToPos(time, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    if (kind === "adopted") line("mark-adopted", x, foot, x, foot - 9 * ratio);
    else line("mark-rolled-back", x, foot, x, bbox.top, [4, 3]);
  }
  ctx.restore();
}

// ---- the last hour

export function showHistory(history) {
  const { times } = history;
  marks = history.marks;
  const horizons = Object.keys(history.skill);
  // Of the samples: the marks are bounded, and may not reach an hour back
  const [adopted, back] = [history.adopted, history.rolled_back].map((counts) => counts.reduce((a, b) => a + b, 0));
  const skills = horizons.map((h, i) => ({ label: ahead(h), tone: tone(i), values: history.skill[h] }));
  const last = skills.map(({ label, values }) => `${label} ${format.signed(values.at(-1))}`);
  charts.skill.draw(times, [...skills, ...legendOfMarks(times, adopted, back)], {
    gist: `Skill by horizon over the last hour, at the end: ${last.join(", ")}. `
      + `New weights came into service ${format.plural(adopted, "time")}, and were taken back ${format.plural(back, "time")}`,
  });
  showCoverage(history, horizons);
  showUpdates(history);
}

// What the painted marks mean, as lines without a number on them.
function legendOfMarks(times, adopted, back) {
  const none = times.map(() => null);
  return [
    { label: `adoptions: ${format.whole(adopted)}`, tone: "mark-adopted", values: none, words: null },
    { label: `roll-backs: ${format.whole(back)}`, tone: "mark-rolled-back", dash: [4, 3], values: none, words: null },
  ];
}

function showCoverage({ times, levels, coverage }, horizons) {
  const part = (curve) => curve.map((share) => (share === null ? null : 100 * share));
  const lines = horizons.flatMap((h, i) => {
    const shares = Object.values(coverage[h]); // by level
    return shares.map((share, k) => ({
      label: k ? "" : ahead(h),
      tone: tone(i),
      width: k ? 1 : 1.75,
      values: part(share),
      words: (at) => shares.map((one) => format.percent(one[at])).join(" / "),
    }));
  });
  const promised = levels.map((level, k) => ({
    label: k ? "" : `promised: ${levels.map(format.level).join(" and ")}`,
    tone: "muted",
    dash: [5, 4],
    width: 1,
    values: times.map(() => 100 * level),
    words: null,
  }));
  const last = horizons.map((h) => `${ahead(h)} ${format.percent(Object.values(coverage[h])[0]?.at(-1))}`);
  charts.coverage.draw(times, [...lines, ...promised], {
    gist: `Values inside the interval of ${format.level(levels[0])} over the last hour, at the end: ${last.join(", ")}`,
  });
}

function showUpdates({ times, seconds, updates }) {
  const rates = updates.map((n, i) => n / seconds[i]);
  charts.updates.draw(times, [{ label: "updates/s", tone: "c3", fill: "c3-soft", values: rates }], {
    gist: `Updates of the weights per second over the last hour, ${format.number(rates.at(-1))} at the end`,
  });
}

const ahead = (horizon) => `${format.plural(Number(horizon), "event")} ahead`;

// ---- the status, about once a second

export function showStatus(status) {
  const horizons = (status.horizons ?? []).map(String);
  const levels = status.coverage?.levels ?? [];
  write($("said"), verdict(horizons, status));
  head($("quality"), ["Horizon", "Skill", ...levels.map((level) => `Inside ${format.level(level)}`), "Forecasts that met their value"]);
  body(
    $("quality"),
    horizons.map((h) => [
      ahead(h),
      { words: format.signed(status.skill[h]), mark: status.skill[h] < 0 ? "bad" : null },
      ...levels.map((_, k) => format.percent(status.coverage[h]?.[k])),
      format.whole(status.labels[h]),
    ]),
  );
  const tunes = status.fine_tunes ?? {};
  figures($("learning"), [
    ["New weights in service", format.whole(tunes.adopted)],
    ["Weights taken back", format.whole(tunes.rolled_back)],
    ["Updates since the start", format.whole(status.fine_tune_updates)],
  ]);
}

// What skill says, in a sentence; where it is below zero, what that means and what to do.
function verdict(horizons, { skill, labels }) {
  const told = horizons.filter((h) => Number.isFinite(skill[h]));
  if (!told.length) return "No forecast has met its value yet, so there is no skill to tell.";
  const young = told.every((h) => labels[h] < 300) ? " That is of few forecasts yet, and may still be chance." : "";
  const bad = told.filter((h) => skill[h] < 0);
  if (!bad.length) return `${better(told, skill)}${young}`;
  const worst = Math.min(...bad.map((h) => skill[h]));
  const where = bad.length === told.length ? "at every horizon" : `${format.list(bad)} events ahead`;
  return `Skill is below zero ${where}: there the squared error is up to ${format.percent(-worst, 0)} larger than that `
    + "of the last value, which would be the better forecast; the intervals can be right all the same. What to do: look "
    + "whether the data have changed, at values outside and dead letters first; streams that walk at random, with long "
    + "gaps or young ones show no skill. foldcast backtest on your history says for each stream whether to use its "
    + `forecasts, and a checkpoint trained on it helps.${young}`;
}

function better(told, skill) {
  const shares = told.map((h) => skill[h]);
  const [least, most] = [Math.min(...shares), Math.max(...shares)].map((x) => format.percent(x, 0));
  const by = least === most ? least : `${least} to ${most}`;
  return `The forecasts are better than the last value: their squared error is ${by} smaller, depending on how far ahead.`;
}
