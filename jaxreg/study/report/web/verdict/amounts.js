// Numbers in the unit of the scores, with the digits that each one's interval allows.

const amount = (value, digits) => (known(value) ? fixed(value, digits) : DASH);
const change = (value, digits) => (known(value) ? signed(value, digits) : DASH);
const amountRange = (pair, digits) => (knownPair(pair) ? `${fixed(pair[0], digits)} to ${fixed(pair[1], digits)}` : "");
const changeRange = (pair, digits) => (knownPair(pair) ? `[${signed(pair[0], digits)}, ${signed(pair[1], digits)}]` : "");
const effectWords = (entry) => [change(entry.difference, entry.digits), changeRange(entry.ci95, entry.digits)].filter(Boolean).join(" ");

const arrow = payload.better === "higher" ? "← worse · better →" : "← better · worse →";
const needsWords = (entry) => (entry.needs ? `needs ${entry.needs}` : "");
const seedWords = (seed, words) => (seed === null ? words : `seed ${seed}: ${words}`);

// Runs without a score count as one that --diverged says: it is assumed, and its dot is hollow.
const ASSUMED = "assumed, since this run has no score";
const ASSUMED_WORDS = "A hollow dot has an assumed score: the run itself has none. ";
const assumedOf = (names) => new Set(names.flatMap((name) => accuracy(name, payload.primary)?.assumed ?? []));
const anyAssumed = () => assumedOf(arms.map((arm) => arm.name)).size > 0;
const dotMarks = (dots, assumed, words) => dots.map(([seed, value]) => ({ value, tip: seedWords(seed, words(value)) + (assumed.has(seed) ? ` (${ASSUMED})` : "") }));
const runsWords = (cell) => plural(cell.runs, "run") + (cell.assumed ? `, ${cell.assumed.length} assumed` : "");

function hollow(group) {
  for (const dot of group.querySelectorAll("circle.seed")) dot.classList.toggle("assumed", dot.dataset.tip.endsWith(`(${ASSUMED})`));
}

// Where the name of a guide at `at` starts, so that it stays inside the chart.
function guideAnchor(at, [low, high]) {
  const place = (at - low) / (high - low);
  return place < 0.3 ? "start" : place > 0.7 ? "end" : "middle";
}
