// Draws the page of a grid: the picture, how the law did, and a table with a row for each cell and arm.

const shownEffect = (value) => (known(value) ? signed(payload.scale * value, 2) : DASH);
const shownRange = (pair) => (knownPair(pair) ? `[${shownEffect(pair[0])}, ${shownEffect(pair[1])}]` : DASH);
const cellWords = (cell) => Object.entries(cell).map(([name, value]) => `${name} ${value}`).join(", ");
const taken = (choice) => (choice ? Object.values(choice.options[choice.chosen]).join(", ") : DASH);

function careOf(cell, effect) {
  const reasons = [...cell.cautions, ...effect.failed_controls];
  return reasons.length ? reasons.join("; ") : DASH;
}

function cellRows(cell) {
  return Object.entries(cell.effects).map(([arm, effect]) => [
    cellWords(cell.cell), armTitle(arm), shownEffect(effect.difference), shownRange(effect.ci95), effect.verdict ?? effect.reason,
    `${taken(cell.tuning[arm])} (baseline ${taken(cell.tuning[payload.baseline])})`, cell.fit ? "fit" : "test", careOf(cell, effect),
  ]);
}

function drawTable() {
  const names = ["cell", "arm", `difference, ${payload.unit}`, "95% interval", "verdict", "tuned to", "of the law", "read with care"];
  const rows = payload.cells.flatMap(cellRows).map((row) => html("tr", {}, row.map((text, at) => (at ? html("td", {}, text) : html("th", { scope: "row" }, text)))));
  const head = html("thead", {}, html("tr", {}, names.map((name) => html("th", { scope: "col" }, name))));
  const left = payload.cells.filter((cell) => cell.status !== "done").map((cell) => cellWords(cell.cell));
  const open = left.length ? html("p", {}, `${left.length} cells have not run yet: ${left.join("; ")}`) : null;
  return [scrolling("Every cell", html("table", { class: "numbers" }, head, html("tbody", {}, rows))), open].filter(Boolean);
}

function drawWarnings() {
  const lines = payload.quick ? ["A quick run: a smoke test, whose numbers say nothing."] : [];
  if (payload.dropped.length) lines.push(`${payload.dropped.length} cells were left out: ${payload.why_dropped}`);
  for (const { field } of payload.changed_after_training ?? []) lines.push(`${field} was changed after the first member had trained.`);
  return lines.map((line) => html("li", {}, line));
}

const done = payload.cells.filter((cell) => cell.status === "done").length;
mounted("eyebrow").append(`${done} of ${payload.cells.length} cells · ${plural(seeds.length, "seed")} · ${payload.primary}`);
mounted("title").append(payload.question);
mounted("warnings").append(...drawWarnings());
if (payload.picture) {
  const words = "Differences per cell, with contours at zero and at the margin; the table below has the numbers.";
  mounted("picture").append(html("img", { src: `data:image/png;base64,${payload.picture}`, alt: words, style: "max-width: 100%" }));
}
if (payload.law) {
  mounted("statement").append(`Stated before the run: ${payload.law.statement}`);
  mounted("law").append(html("ul", { class: "lines" }, payload.lines.map((line) => html("li", {}, line))));
} else {
  mounted("law").closest("section").hidden = true;
}
mounted("cells").append(...drawTable());
mounted("footer").append(`Made by ${payload.command}. This page is one file and loads nothing from the network.`);
