// In the opening: the view that decides, means and intervals only.
function drawPicture(box) {
  const shown = challengers.filter((arm) => contrast(arm.name, payload.primary));
  if (!shown.length) return;
  const entries = shown.map((arm) => contrast(arm.name, payload.primary));
  const chart = html("div");
  box.append(chart, saving(svgButton("differences", chart)));
  responsive(chart, (width) => rowChart(width, overview(forestSpec(payload.primary, width < 720), (index) => entries[index],
    forestDomain(entries.flatMap((entry) => [...(entry.ci95 ?? []), entry.difference]), hasVerdicts ? payload.margin : null))));
}

const forestDomain = (values, margin) => extent(values, margin === null ? [0] : [-1.3 * margin, 1.3 * margin]);

// Differences from the baseline: the mean, its interval, zero and the margin; a dot per seed where runs are paired.

function drawForest(box) {
  let view = payload.primary;
  mounted("forest-words").append(`The diamond is the difference of the means, the bar its 95% interval. ${payload.paired ? "Each small dot is one seed: the arm minus the baseline. " : ""}${payload.paired && anyAssumed() ? ASSUMED_WORDS : ""}`
    + (hasVerdicts ? "Inside the shaded band a difference is smaller than the margin." : ""));
  const chart = html("div");
  const numbers = html("div");
  const redraw = responsive(chart, (width) => rowChart(width, forestSpec(view, width < 720)));
  const show = (name) => {
    view = name;
    numbers.replaceChildren(forestNumbers(view));
    redraw();
  };
  if (views.length > 1) {
    const options = views.map(({ name }) => [name, name === payload.primary ? `${name} (decides)` : name]);
    box.append(html("div", { class: "controls-row" }, dropDown("View", options, view, show)));
  }
  box.append(chart, saving(svgButton("every difference", chart)), numbers);
  show(view);
}

function forestSpec(view, narrow) {
  const rows = challengers.filter((arm) => contrast(arm.name, view));
  const values = rows.flatMap((arm) => [...contrast(arm.name, view).dots.map(([, value]) => value), ...(contrast(arm.name, view).ci95 ?? []), contrast(arm.name, view).difference]);
  const margin = view === payload.primary && hasVerdicts ? payload.margin : null;
  const domain = forestDomain(values, margin);
  return {
    label: `Difference from ${baselineTitle} on ${view}, per arm`, axis: `${view}, difference from ${baselineTitle}   (${arrow})`, domain,
    tick: (value, all) => signed(value, tickDigits(all)), lane: 46, band: margin === null ? null : [-margin, margin],
    lines: [{ at: 0, text: margin === null ? "no difference" : `no difference · margin ±${margin}`, key: "zero", anchor: guideAnchor(0, domain) }],
    rows: rows.map((arm) => forestRow(arm, view, narrow)),
  };
}

function forestRow(arm, view, narrow) {
  const entry = contrast(arm.name, view);
  const verdict = view === payload.primary ? verdictOf(entry) : null;
  const key = verdict?.key ?? "neutral";
  const words = verdict && [`${verdict.symbol} ${narrow ? entry.verdict : verdict.words}`, !narrow && entry.needs && `(${needsWords(entry)})`].filter(Boolean).join(" ");
  return {
    title: arm.title, tag: KINDS[arm.kind], key, sideKey: verdict && `ink-${key}`, side: words ? [words, effectWords(entry)] : [effectWords(entry)],
    tip: [`${arm.title}: ${effectWords(entry)}`, verdict?.words, needsWords(entry)].filter(Boolean).join(", "),
    draw: (group, x) => {
      effectMarks(group, x, key, entry, dotMarks(entry.dots, assumedOf([arm.name, payload.baseline]), (value) => change(value, entry.digits)));
      hollow(group);
    },
  };
}

function forestNumbers(view) {
  const rows = challengers.filter((arm) => contrast(arm.name, view)).map((arm) => {
    const entry = contrast(arm.name, view);
    const cell = accuracy(arm.name, view);
    const always = payload.paired ? [changeRange(entry.always_valid95, entry.digits) || DASH] : [];
    return [arm.title, String(cell.runs), amount(cell.mean, cell.digits), change(entry.difference, entry.digits), changeRange(entry.ci95, entry.digits), ...always, pValue(entry.p), pValue(entry.p_holm), entry.needs || DASH];
  });
  const always = payload.paired ? ["95% at every number of seeds"] : [];
  return numbersTable(`These differences in numbers (${view})`, ["arm", "runs", "mean", "difference", "95% interval", ...always, "p", "p (Holm)", "needs"], rows);
}
