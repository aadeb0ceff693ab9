// Numbers for people: accuracies in per cent, differences in points with their sign, a dash for what is not known.

const DASH = "–";
const known = (value) => typeof value === "number" && Number.isFinite(value);
const fixed = (value, digits) => value.toFixed(digits).replace("-", "−");

function signed(value, digits) {
  const text = fixed(Math.abs(value), digits);
  if (Number(text) === 0) return text;
  return (value < 0 ? "−" : "+") + text;
}

const percent = (value, digits = 1) => (known(value) ? `${fixed(100 * value, digits)}%` : DASH);
const points = (value, digits = 1) => (known(value) ? signed(100 * value, digits) : DASH);
const weight = (value) => (known(value) ? value.toFixed(2) : DASH);

const knownPair = (pair) => Array.isArray(pair) && known(pair[0]) && known(pair[1]);
const percentRange = (pair) => (knownPair(pair) ? `${fixed(100 * pair[0], 1)} to ${fixed(100 * pair[1], 1)}` : DASH);
const pointsRange = (pair) => (knownPair(pair) ? `[${points(pair[0])}, ${points(pair[1])}]` : DASH);

function pValue(value) {
  if (!known(value)) return DASH;
  if (value < 0.001) return "< .001";
  return value >= 0.9995 ? "1" : value.toFixed(value < 0.01 ? 4 : 3).replace(/^0/, "");
}

function seconds(value) {
  if (!known(value)) return DASH;
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 100) return `${Math.round(value)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
const listed = (items) => (items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`);

// Round tick positions within [low, high], about `count` of them.
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999);
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) found.push(Number((index * step).toPrecision(12)));
  return found;
}

// Digits behind the point that tell the ticks of an axis apart, where each is shown times `scale`.
function tickDigits(values, scale = 1) {
  if (values.length < 2) return 3;
  return Math.min(12, Math.max(0, -Math.floor(Math.log10(scale * (values[1] - values[0])) + 1e-9)));
}

const linear = ([low, high], [from, to]) => (value) => from + ((value - low) / (high - low)) * (to - from);

// The smallest interval that holds all known values and the given ones, with a little air.
function extent(values, always = [], air = 0.04) {
  const all = values.filter(known).concat(always);
  const low = Math.min(...all);
  const high = Math.max(...all);
  const room = (high - low || 1) * air;
  return [low - room, high + room];
}
