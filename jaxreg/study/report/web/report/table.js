// Arms by views. The deciding view stands first and is the only one with verdicts.

const tableViews = [...views.filter((view) => view.name === payload.primary), ...views.filter((view) => view.name !== payload.primary)];

function drawTable(box) {
  const head = html("tr", {}, html("th", { scope: "col", class: "stick" }, "arm"), tableViews.map(viewHeading));
  const rows = arms.map((arm) => html("tr", { class: arm.name === payload.baseline ? "baseline" : arm.kind },
    armHeading(arm), tableViews.map((view) => tableCell(arm, view))));
  const table = html("table", { class: "results" }, html("thead", {}, head), html("tbody", {}, rows));
  box.append(...tableFinding(), scrolling(`${isAccuracy ? "Accuracy" : "Loss"} of every arm on every view; scrolls sideways`, table), tableKey(), saving(csvButton("every arm on every view", ...tableRaw())), askedList());
}

function tableRaw() {
  const unit = isAccuracy ? "%" : metric.unit;
  const rows = arms.flatMap((arm) => tableViews.map((view) => {
    const [found, entry] = [accuracy(arm.name, view.name), contrast(arm.name, view.name)];
    return [arm.name, view.name, scaled(found?.mean), ...scaledPair(found?.ci95), scaled(entry?.difference), ...scaledPair(entry?.ci95), entry?.p, entry?.p_holm, entry?.verdict];
  }));
  return [["arm", "view", `${metric.title} (${unit})`, "from", "to", `difference (${metric.unit})`, "from", "to", "p", "p (Holm)", "verdict"], rows];
}

function viewHeading(view) {
  const primary = view.name === payload.primary;
  const reason = uninformative(view);
  const tip = [view.asked && `asked: ${arrows(view.asked)}`, reason].filter(Boolean).join(" · ");
  return html("th", { scope: "col", class: primary ? "primary" : reason ? "dull" : null, "data-tip": tip || null },
    view.title ?? view.name, plainName(view), primary && html("span", { class: "under" }, "decides"),
    reason && html("span", { class: "under" }, inFewWords(reason)));
}

// The name that terminal and results.json have for it.
function plainName(view) {
  const words = view.name.replaceAll("_", " ");
  return view.title && view.title.toLowerCase() !== words && html("span", { class: "under" }, words);
}

function armHeading(arm) {
  const tag = kindTag(arm);
  const diff = Object.entries(arm.diff ?? {}).map(([field, value]) => `${field} = ${value}`).join(", ");
  return html("th", { scope: "row", class: "stick", "data-tip": diff || null }, arm.title ?? arm.name, tag && html("span", { class: "under" }, tag));
}

function tableCell(arm, view) {
  const found = accuracy(arm.name, view.name);
  const entry = contrast(arm.name, view.name);
  const primary = view.name === payload.primary;
  const missing = seedsMissing(entry);
  const verdict = primary ? verdictOf(entry) : null;
  const dull = uninformative(view) || missing !== null || verdict?.key === "untestable";
  const classes = [primary && "primary", dull && "dull", verdict && `is-${verdict.key}`].filter(Boolean).join(" ");
  const hits = payload.accuracy?.[arm.name]?.[view.name];
  const own = [html("span", { class: "value" }, level(found?.mean)), html("span", { class: "range" }, levelRange(found?.ci95)),
    hits && html("span", { class: "range" }, `accuracy ${percent(hits.mean)}`)];
  const against = entry && html("span", { class: "difference" }, effect(entry.difference), " ", knownPair(entry.ci95) && html("span", { class: "range" }, effectRange(entry.ci95)));
  const needs = missing !== null && html("span", { class: "range needs" }, `needs ${missing} seeds`);
  if (!primary) return html("td", { class: classes || null }, own, against, needs);
  const changed = entry && payload.errors?.[arm.name];
  const errors = changed && html("span", { class: "range" }, `errors ${changed.replaceAll("-", "−")}`);
  const p = known(entry?.p) && html("span", { class: "range" }, known(entry.p_holm) ? `p ${pValue(entry.p_holm)} (Holm)` : `p ${pValue(entry.p)}`);
  return html("td", { class: classes }, html("div", { class: "deciding" }, html("div", {}, own), html("div", {}, verdict && badge(verdict), against, errors, p, needs)));
}

function tableFinding() {
  const counted = VERDICTS.map((kind) => ({ ...kind, words: kind.start, arms: challengers.filter((arm) => arm.kind === "arm" && verdictOf(contrast(arm.name, payload.primary))?.key === kind.key) }));
  const rows = counted.filter((group) => group.arms.length).map((group) => [html("dt", {}, badge(group)), html("dd", {}, listed(group.arms.map((arm) => arm.title ?? arm.name)))]);
  return rows.length ? [shows(`On ${primaryTitle}, against ${baselineTitle}:`), html("dl", { class: "verdicts" }, rows)] : [];
}

function tableKey() {
  return html("p", { class: "key" }, VERDICTS.map((kind) => badge({ ...kind, words: kind.start })), html("span", { class: "dull-sample" }, "hatched: too few seeds, or no arm could differ"));
}

function askedList() {
  const rows = tableViews.map((view) => [view.title ?? view.name, sentence(view.trained ?? DASH), sentence(view.asked ?? DASH)]);
  return numbersTable("What each column asks", ["view", "trained on", "asked"], rows);
}
