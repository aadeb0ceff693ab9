// The scores themselves: a dot per run, the arm's mean and its interval.

function drawRuns(box) {
  const shown = arms.filter((arm) => accuracy(arm.name, payload.primary));
  const thinned = shown.some((arm) => accuracy(arm.name, payload.primary).dots.length < accuracy(arm.name, payload.primary).runs);
  const chart = html("div");
  responsive(chart, (width) => rowChart(width, runsSpec(shown)));
  box.append(chart, saving(svgButton("every run", chart), csvButton(thinned ? "a sample of the runs" : "every run", ["arm", "seed", payload.primary, ...(anyAssumed() ? ["assumed"] : [])], runsRaw(shown))));
  if (anyAssumed()) box.append(html("p", { class: "small" }, ASSUMED_WORDS));
  if (thinned) box.append(html("p", { class: "small" }, "Of arms with many runs the dots are a sample, at equal steps of rank; means and intervals are of all runs."));
}

const runsRaw = (shown) => shown.flatMap((arm) => accuracy(arm.name, payload.primary).dots.map(([seed, value]) =>
  [arm.title, seed, value, ...(anyAssumed() ? [assumedOf([arm.name]).has(seed) ? "yes" : "no"] : [])]));

function runsSpec(shown) {
  const cells = shown.map((arm) => accuracy(arm.name, payload.primary));
  const domain = extent(cells.flatMap((cell) => [...cell.dots.map(([, value]) => value), ...(cell.ci95 ?? [])]));
  const base = accuracy(payload.baseline, payload.primary);
  return {
    label: `${payload.primary} of every run, per arm`, axis: `${payload.primary}   (${arrow})`, domain, tick: (value, all) => fixed(value, tickDigits(all)), lane: 46, band: null,
    lines: known(base?.mean) ? [{ at: base.mean, text: "mean of the baseline", key: "reference", anchor: guideAnchor(base.mean, domain) }] : [], rows: shown.map(runsRow),
  };
}

function runsRow(arm) {
  const cell = accuracy(arm.name, payload.primary);
  const key = verdictOf(contrast(arm.name, payload.primary))?.key ?? "neutral";
  const words = [amount(cell.mean, cell.digits), amountRange(cell.ci95, cell.digits)].filter(Boolean).join(", ");
  return {
    title: arm.title, tag: kindTag(arm), key, side: [words, runsWords(cell)], tip: `${arm.title}: ${words}, ${runsWords(cell)}`,
    draw: (group, x) => {
      effectMarks(group, x, key, { difference: cell.mean, ci95: cell.ci95 }, dotMarks(cell.dots, assumedOf([arm.name]), (value) => amount(value, cell.digits)));
      hollow(group);
    },
  };
}
