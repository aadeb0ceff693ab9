// Effects: a dot per seed, the mean, its interval, the zero line and the margin.

// In the opening: the arms on the view that decides, without checks and without seeds.
function drawPicture(box) {
  const shown = challengers.filter((arm) => arm.kind === "arm" && contrast(arm.name, payload.primary));
  const entries = shown.map((arm) => contrast(arm.name, payload.primary));
  if (!shown.length) return;
  const spec = overview(forestSpec(payload.primary, shown), (index) => entries[index], forestDomain(entries.flatMap((entry) => entry.ci95 ?? [])));
  const chart = html("div");
  box.append(chart, saving(svgButton("effects", chart)));
  responsive(chart, (width) => rowChart(width, spec));
}

function drawForest(box) {
  let view = payload.primary;
  const chart = html("div");
  const numbers = html("div");
  const note = html("p", { class: "shows", "aria-live": "polite" });
  const redraw = responsive(chart, (width) => rowChart(width, forestSpec(view)));
  const show = (name) => {
    view = name;
    note.textContent = forestNote(view);
    numbers.replaceChildren(forestNumbers(view));
    redraw();
  };
  const options = tableViews.filter(({ name }) => challengers.some((arm) => contrast(arm.name, name)))
    .map(({ name, title }) => [name, name === payload.primary ? `${title ?? name} (decides)` : title ?? name]);
  box.append(html("div", { class: "controls-row" }, dropDown("View", options, view, show)), note, chart, saving(svgButton("every seed", chart)), numbers);
  show(view);
}

function forestNote(view) {
  if (view !== payload.primary) return `${viewTitle(view)} is a secondary view: effects and intervals, no verdicts.`;
  const top = best(challengers.filter((arm) => arm.kind === "arm"), (arm) => direction * contrast(arm.name, view)?.difference);
  if (!top) return "";
  const entry = contrast(top.name, view);
  const better = metric.higher_is_better ? "" : "; lower is better";
  return `Best of the arms on ${viewTitle(view)} is ${quoted(top)}: ${effect(entry.difference)} ${metric.unit} ${effectRange(entry.ci95)} against “${baselineTitle}”${better}.`;
}

const forestDomain = (values) => extent(values, known(payload.margin) ? [-payload.margin * 1.3, payload.margin * 1.3] : [-0.05, 0.05]);

function forestSpec(view, shown = challengers.filter((arm) => contrast(arm.name, view))) {
  const values = shown.flatMap((arm) => [...(contrast(arm.name, view).per_seed ?? []), ...(contrast(arm.name, view).ci95 ?? [])]);
  const margin = payload.margin;
  return {
    label: `Difference from ${baselineTitle} on ${viewTitle(view)}, per arm`,
    axis: `${effectAxis} against ${baselineTitle}   (← ${direction > 0 ? "worse · better" : "better · worse"} →)`,
    domain: forestDomain(values),
    tick: effectTick, lane: 46,
    band: known(margin) ? [-margin, margin] : null,
    lines: [{ at: 0, text: known(margin) ? `no effect · margin ±${marginText()}` : "no effect", key: "zero" }],
    rows: shown.map((arm, index) => forestRow(arm, view, index > 0 && arm.kind !== "arm" && shown[index - 1].kind === "arm")),
  };
}

function forestRow(arm, view, ruleAbove) {
  const entry = contrast(arm.name, view);
  const verdict = view === payload.primary ? verdictOf(entry) : null;
  const key = verdict?.key ?? "neutral";
  const missing = seedsMissing(entry);
  const found = knownPair(entry.ci95) ? `${effect(entry.difference)} ${effectRange(entry.ci95)}` : effect(entry.difference);
  const words = verdict && `${verdict.symbol} ${entry.verdict}${missing === null ? "" : ` (${missing} seeds)`}`;
  return {
    title: arm.title ?? arm.name, tag: KINDS[arm.kind], ruleAbove, key, sideKey: verdict && `ink-${key}`,
    side: words ? [words, found] : [found],
    tip: `${arm.title}: ${found} ${metric.unit}${verdict ? `, ${verdict.words}` : ""}${missing === null ? "" : `, needs ${missing} seeds`}`,
    draw: (group, x) => effectMarks(group, x, key, entry, (entry.per_seed ?? []).map((value, index) => ({ value, tip: `seed ${seeds[index] ?? index}: ${effect(value)} ${metric.unit}` }))),
  };
}

function forestNumbers(view) {
  const columns = ["arm", "difference", "95% interval", "p", "p (Holm)", ...seeds.map((seed) => `seed ${seed}`)];
  const rows = challengers.filter((arm) => contrast(arm.name, view)).map((arm) => {
    const entry = contrast(arm.name, view);
    return [arm.title, effect(entry.difference), effectRange(entry.ci95), pValue(entry.p), pValue(entry.p_holm), ...seeds.map((_, index) => effect(entry.per_seed?.[index]))];
  });
  return numbersTable(`These effects in numbers, seed by seed (${metric.unit}, ${viewTitle(view)})`, columns, rows, forestRaw(view));
}

function forestRaw(view) {
  const rows = challengers.filter((arm) => contrast(arm.name, view)).map((arm) => {
    const entry = contrast(arm.name, view);
    return [arm.name, view, scaled(entry.difference), ...scaledPair(entry.ci95), entry.p, entry.p_holm, entry.verdict, ...seeds.map((_, index) => scaled(entry.per_seed?.[index]))];
  });
  return { columns: ["arm", "view", `difference (${metric.unit})`, "from", "to", "p", "p (Holm)", "verdict", ...seeds.map((seed) => `seed ${seed}`)], rows };
}
