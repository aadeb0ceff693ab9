// Values in their own unit: a measure's value times its scale, with as many digits as its unit bears.

const digitsOf = (measure) => (["points", "% (log)", "% of runs", "% kept"].includes(measure.unit) ? 1 : 2);
const scaled = (value, measure) => (known(value) ? measure.scale * value : null);
const amount = (value, measure) => (known(value) ? signed(measure.scale * value, digitsOf(measure)) : DASH);
const level = (value, measure) => (known(value) ? fixed(measure.scale * value, digitsOf(measure)) : DASH);
const amountRange = (pair, measure) => (knownPair(pair) ? `[${amount(pair[0], measure)}, ${amount(pair[1], measure)}]` : "");
const effectText = (entry) => (known(entry.difference) ? `${amount(entry.difference, entry)} ${amountRange(entry.ci95, entry)} ${entry.unit}`.replace(/\s+/g, " ") : "");

// The change of the errors in percent of the baseline's, beside an effect in points; nothing where there is none.
const errorsText = (entry) => (entry.errors ? `errors ${entry.errors.replaceAll("-", "−")}` : "");

// The badge of any part of a claim: a verdict, a document's, an exact one, or why there is none yet.
function partBadge(label, reason, byMargin) {
  if (label === "exact") return badge({ key: "exact", symbol: "✓", words: "exact" });
  if (label === "refuted") return badge({ key: "opposite", symbol: "▼", words: "refuted" });
  const verdict = verdictOf({ verdict: label, by_margin: byMargin });
  return verdict ? badge(verdict) : badge({ key: "waiting", symbol: "·", words: reason ?? "not run yet" });
}

const countOf = (label) => (["exact", "refuted"].includes(label) || VERDICTS.some(({ start }) => label.startsWith(start)) ? partBadge(label) : partBadge(null, label));
const keyOf = (entry) => verdictOf(entry)?.key ?? "neutral";
const settingText = (values) => Object.entries(values ?? {}).map(([field, value]) => `${field} = ${value}`).join(", ");
