// The results, and how to look things up in them.

const payload = JSON.parse(document.getElementById("payload").textContent);
const arms = payload.arms ?? [];
const views = payload.views ?? [];
const seeds = payload.seeds ?? [];
const challengers = arms.filter((arm) => arm.name !== payload.baseline);

const armByName = new Map(arms.map((arm) => [arm.name, arm]));
const armTitles = new Map(arms.map((arm) => [arm.name, arm.title ?? arm.name]));
const viewTitles = new Map(views.map((view) => [view.name, view.title ?? view.name]));
const armTitle = (name) => armTitles.get(name) ?? name;
const viewTitle = (name) => viewTitles.get(name) ?? name;
const quoted = (arm) => `“${arm.title ?? arm.name}”`;
const primaryTitle = viewTitle(payload.primary);
const baselineTitle = armTitle(payload.baseline);

const contrasts = new Map((payload.comparisons ?? []).map((entry) => [`${entry.arm}\n${entry.split}`, entry]));
const contrast = (arm, view) => contrasts.get(`${arm}\n${view}`) ?? null;
const accuracy = (arm, view) => payload.table?.[arm]?.[view] ?? null;

const KINDS = { aa: "A/A check", control: "control" };
const kindTag = (arm) => (arm.name === payload.baseline ? "baseline" : KINDS[arm.kind] ?? null);

// Shape and words always go with the colour. Of VERDICTS (verdict_styles.py) the first that the verdict starts with counts.
function verdictOf(entry) {
  if (!entry?.verdict) return null;
  const kind = VERDICTS.find(({ start }) => entry.verdict.startsWith(start)) ?? { key: "untestable", symbol: "·" };
  return { ...kind, words: entry.verdict + (entry.by_margin ? ", by the margin" : "") };
}

// Why a view can tell no arms apart, or null: in few words, and in full.
const uninformative = (view) => payload.uninformative?.[view.name] ?? null;
const inFewWords = (reason) => reason.replace(/\s*\(.*\)\s*$/, "");

// Without a verdict, an effect is clear where its interval leaves out 0.
const isClear = (entry) => !entry.verdict && knownPair(entry.ci95) && (entry.ci95[0] > 0 || entry.ci95[1] < 0);
// A cell lacks power where deciding it would take more seeds than there were.
const seedsMissing = (entry) => (known(entry?.seeds_needed) && entry.seeds_needed > seeds.length && !isClear(entry) ? entry.seeds_needed : null);
const badge = (verdict) => html("span", { class: `badge ${verdict.key}` }, html("span", { "aria-hidden": "true" }, verdict.symbol), ` ${verdict.words}`);

const best = (items, score) => items.filter((item) => known(score(item))).reduce((top, item) => (top === null || score(item) > score(top) ? item : top), null);
const mean = (values) => (values.length ? values.reduce((total, value) => total + value, 0) / values.length : NaN);
