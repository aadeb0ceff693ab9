// Numbers in the unit of the scores, with the digits that each one's interval allows.

const amount = (value, digits) => (known(value) ? fixed(value, digits) : DASH);
const change = (value, digits) => (known(value) ? signed(value, digits) : DASH);
const amountRange = (pair, digits) => (knownPair(pair) ? `${fixed(pair[0], digits)} to ${fixed(pair[1], digits)}` : "");
const changeRange = (pair, digits) => (knownPair(pair) ? `[${signed(pair[0], digits)}, ${signed(pair[1], digits)}]` : "");
const effectWords = (entry) => [change(entry.difference, entry.digits), changeRange(entry.ci95, entry.digits)].filter(Boolean).join(" ");

const arrow = payload.better === "higher" ? "← worse · better →" : "← better · worse →";
const needsWords = (entry) => (entry.needs ? `needs ${entry.needs}` : "");
const seedWords = (seed, words) => (seed === null ? words : `seed ${seed}: ${words}`);

// Where the name of a guide at `at` starts, so that it stays inside the chart.
function guideAnchor(at, [low, high]) {
  const place = (at - low) / (high - low);
  return place < 0.3 ? "start" : place > 0.7 ? "end" : "middle";
}
