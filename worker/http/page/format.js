// Numbers, spans and times for people; what is not known is a dash.

const NOT_KNOWN = "–";
const known = (x) => x !== null && x !== undefined && Number.isFinite(x);

const SHORT = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

// A value of a stream, of whatever size.
export function number(x) {
  if (!known(x)) return NOT_KNOWN;
  const size = Math.abs(x);
  return size !== 0 && (size < 1e-4 || size >= 1e7) ? x.toExponential(3) : SHORT.format(x);
}

export const whole = (x) => (known(x) ? WHOLE.format(x) : NOT_KNOWN);

export const percent = (x, digits = 1) => (known(x) ? `${(100 * x).toFixed(digits)} %` : NOT_KNOWN);

// The share of values that an interval is to hold: 99.5 % is not 100 %.
export const level = (x) => (known(x) ? `${SHORT.format(100 * x)} %` : NOT_KNOWN);

export const signed = (x) => (known(x) ? (x < 0 ? "−" : "+") + Math.abs(x).toFixed(3) : NOT_KNOWN);

export function rate(x, unit) {
  return known(x) ? `${x < 10 ? x.toFixed(1) : WHOLE.format(x)} ${unit}/s` : NOT_KNOWN;
}

// Seconds in the unit that fits.
export function seconds(x) {
  if (!known(x)) return NOT_KNOWN;
  if (x !== 0 && x < 1) return `${SHORT.format(Math.round(x * 1e4) / 10)} ms`;
  if (x < 120) return `${x === 0 || x >= 10 ? x.toFixed(0) : x.toFixed(1)} s`;
  if (x < 7200) return `${(x / 60).toFixed(0)} min`;
  return x < 172800 ? `${(x / 3600).toFixed(1)} h` : `${(x / 86400).toFixed(1)} d`;
}

export function bytes(x) {
  if (!known(x)) return NOT_KNOWN;
  const place = x < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(x) / 10));
  return `${SHORT.format(x / 1024 ** place)} ${["B", "KiB", "MiB", "GiB", "TiB"][place]}`;
}

const two = (x) => String(x).padStart(2, "0");

export function day(ms) {
  const date = new Date(ms);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

export function clock(ms, withSeconds = true) {
  const date = new Date(ms);
  return `${two(date.getHours())}:${two(date.getMinutes())}${withSeconds ? `:${two(date.getSeconds())}` : ""}`;
}

export const time = (ms) => (known(ms) ? `${day(ms)} ${clock(ms)}` : NOT_KNOWN);

// The clock alone where it is of today.
export const lately = (ms) => (known(ms) && day(ms) === day(Date.now()) ? clock(ms) : time(ms));

export function plural(n, one, many = `${one}s`) {
  return `${whole(n)} ${n === 1 ? one : many}`;
}

export function list(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}
