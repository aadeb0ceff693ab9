// Draws the page of a grid: the picture, how the law did, and a table with a row for each cell and arm.

const shownEffect = (value) => (known(value) ? signed(payload.scale * value, payload.scale === 1 ? 3 : 2) : DASH);
const shownRange = (pair) => (knownPair(pair) ? `[${shownEffect(pair[0])}, ${shownEffect(pair[1])}]` : DASH);
const cellWords = (cell) => Object.entries(cell).map(([name, value]) => `${name} ${value}`).join(", ");
const taken = (choice) => (choice ? Object.values(choice.options[choice.chosen]).join(", ") : DASH);

const roleOf = (cell) => (cell.fit === null ? DASH : cell.fit ? "fit" : "test");

function careOf(cell, effect) {
  const reasons = [...cell.cautions, ...effect.failed_controls];
  return reasons.length ? reasons.join("; ") : DASH;
}

function cellRows(cell) {
  return Object.entries(cell.effects).map(([arm, effect]) => [
    cellWords(cell.cell), armTitle(arm), shownEffect(effect.difference), shownRange(effect.ci95), verdictOf(effect)?.words ?? effect.reason,
    `${taken(cell.tuning[arm])} (baseline ${taken(cell.tuning[payload.baseline])})`, roleOf(cell), careOf(cell, effect),
  ]);
}

function drawTable() {
  const names = ["cell", "arm", `difference, ${payload.unit}`, "95% interval", "verdict", "tuned to", "of the law", "read with care"];
  const rows = payload.cells.flatMap(cellRows).map((row) => html("tr", {}, row.map((text, at) => (at ? html("td", {}, text) : html("th", { scope: "row" }, text)))));
  const head = html("thead", {}, html("tr", {}, names.map((name) => html("th", { scope: "col" }, name))));
  return [scrolling("Every cell", html("table", { class: "numbers" }, head, html("tbody", {}, rows))), saving(csvButton("every cell", ...rawCells())), ...waiting()].filter(Boolean);
}

function rawCells() {
  const scaled = (value) => (known(value) ? Number((payload.scale * value).toPrecision(6)) : null);
  const axes = payload.axes.map(({ name }) => name);
  const rows = payload.cells.flatMap((cell) => Object.entries(cell.effects).map(([arm, effect]) => [
    ...axes.map((name) => cell.cell[name]), arm, ...[effect.difference, ...(effect.ci95 ?? [null, null])].map(scaled), verdictOf(effect)?.words ?? effect.reason, taken(cell.tuning[arm]), roleOf(cell)]));
  return [[...axes, "arm", `difference (${payload.unit})`, "from", "to", "verdict", "tuned to", "of the law"], rows];
}

// The cells that have no row yet, and why.
function waiting() {
  const words = { "not run yet": "not run yet", "kept back": "kept back until all cells are done, to test the law" };
  return Object.entries(words).map(([status, text]) => {
    const own = payload.cells.filter((cell) => cell.status === status).map((cell) => cellWords(cell.cell));
    return own.length ? html("p", {}, `${plural(own.length, "cell")} ${text}: ${own.join("; ")}`) : null;
  });
}

// The fitted coefficients of every arm's law, with the signs that were expected.
function drawCoefficients() {
  const fitted = Object.entries(payload.law_found ?? {}).filter(([, found]) => found.fitted);
  const rows = fitted.flatMap(([arm, found]) => Object.entries(found.coefficients).map(([name, each]) => [
    armTitle(arm), name, shownEffect(each.value), shownRange(each.ci95), each.expected_sign ? (each.expected_sign > 0 ? "+" : "\u2212") : DASH,
  ]));
  const columns = ["arm", "feature", `coefficient, ${payload.unit}`, "95% interval", "expected sign"];
  return rows.length ? numbersTable("Coefficients of the law", columns, rows) : null;
}

function drawWarnings() {
  const lines = payload.quick ? ["A quick run: a smoke test, whose numbers say nothing."] : [];
  if (payload.dropped.length) lines.push(`${plural(payload.dropped.length, "cell")} left out: ${payload.why_dropped}`);
  for (const { field } of payload.changed_after_training ?? []) lines.push(`${field} was changed after the first member had trained.`);
  return lines.map((line) => html("li", {}, line));
}

const done = payload.cells.filter((cell) => cell.status !== "not run yet").length;
mounted("eyebrow").append(`${done} of ${payload.cells.length} cells · ${plural(seeds.length, "seed")} · ${payload.primary}`);
mounted("title").append(payload.question);
mounted("warnings").append(...drawWarnings());
// How each arm came out: cell by cell where they are few, else in how many of them.
const FEW = 4;
function drawHeadline() {
  return challengers.map((arm) => {
    const ran = payload.cells.filter((cell) => cell.effects[arm.name]);
    const words = (cell, part) => verdictOf(cell.effects[arm.name])?.[part] ?? "without a verdict";
    if (!ran.length) return null;
    if (ran.length <= FEW) return html("li", {}, `${arm.title}: ${listed(ran.map((cell) => `${words(cell, "words")} (${cellWords(cell.cell)})`))}.`);
    const starts = ran.map((cell) => words(cell, "start"));
    const counted = [...new Set(starts)].sort().map((start) => `${start} in ${starts.filter((each) => each === start).length}`);
    return html("li", {}, `${arm.title}, ${plural(ran.length, "cell")}: ${listed(counted)}.`);
  }).filter(Boolean);
}

// The picture is a file of its own inside this page, so it is saved as it is.
function picture(name, drawing, words) {
  const file = `data:image/svg+xml;base64,${drawing}`;
  return [scrolling(`${words} Scrolls sideways.`, html("img", { src: file, alt: words })),
    saving(html("a", { class: "save", href: file, download: fileName(name, "svg"), "aria-label": `save as SVG: ${name}` }, "save as SVG"))];
}
mounted("headline").append(...drawHeadline());
const isMap = payload.axes.length > 1;
mounted("reading").append(isMap
  ? "One panel per arm and condition. The solid line is where the difference crosses zero, the dashed line where it crosses the margin. A star: a tuned value lies at the edge of its candidates."
  : "One panel per cell, a row for each arm: the difference from the baseline with its 95% interval, a dot for each seed. Shaded: less than the margin.");
if (payload.picture) {
  mounted("picture").append(...picture("map", payload.picture, isMap ? "Differences per cell, with contours at zero and at the margin; the table below has the numbers." : "Differences of all arms in each cell, with intervals; the table below has the numbers."));
}
if (payload.law || payload.other_law) {
  if (payload.law) mounted("statement").append(`Stated before the run: ${payload.law.statement}`);
  else mounted("statement").append(`Fitted on another grid, ${payload.other_law.grid}: ${payload.other_law.statement}`);
  mounted("law").append(html("ul", { class: "lines" }, payload.lines.map((line) => html("li", {}, line))), drawCoefficients() ?? "");
  if (payload.law_picture) mounted("law").append(...picture("law", payload.law_picture, "Effects that were found against those that the law predicts, of each cell that tests it; dashed: equal."));
} else {
  mounted("law").closest("section").hidden = true;
}
mounted("cells").append(...drawTable());
mounted("footer").append(`Made by ${payload.command}. This page is one file and loads nothing from the network.`);
