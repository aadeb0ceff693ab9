// One row per arm: mean, difference, p and verdict on the view that decides.

const hasVerdicts = known(payload.margin);

function drawVerdicts(box) {
  mounted("verdicts-words").append(`${payload.primary}: ${payload.better} is better. Differences are the arm minus ${baselineTitle}. `
    + (hasVerdicts ? `The smallest effect that matters is ${payload.margin}.` : "Without a margin there are no verdicts."));
  const columns = ["arm", hasVerdicts ? "verdict" : null, "difference", "p (Holm)", payload.primary, "runs"].filter(Boolean);
  const head = html("tr", {}, columns.map((column) => html("th", { scope: "col" }, column)));
  box.append(scrolling("Verdict of every arm; scrolls sideways", html("table", { class: "judged" }, html("thead", {}, head),
    html("tbody", {}, baselineRow(columns.length), challengers.filter((arm) => contrast(arm.name, payload.primary)).map(armRow)))),
    saving(csvButton("verdicts", ...verdictsRaw())));
}

function verdictsRaw() {
  const rows = arms.filter((arm) => accuracy(arm.name, payload.primary)).map((arm) => {
    const [cell, entry] = [accuracy(arm.name, payload.primary), contrast(arm.name, payload.primary)];
    return [arm.title, entry?.verdict ?? entry?.reason, entry?.difference, ...(entry?.ci95 ?? [null, null]), entry?.p, entry?.p_holm, cell.mean, ...(cell.ci95 ?? [null, null]), cell.runs];
  });
  return [["arm", "verdict", "difference", "from", "to", "p", "p (Holm)", payload.primary, "from", "to", "runs"], rows];
}

function level(arm) {
  const cell = accuracy(arm, payload.primary);
  return [html("td", { class: "amount" }, amount(cell.mean, cell.digits), html("span", { class: "range" }, amountRange(cell.ci95, cell.digits))), html("td", { class: "amount" }, String(cell.runs), cell.assumed && html("span", { class: "range" }, `${cell.assumed.length} assumed`))];
}

function baselineRow(width) {
  return html("tr", { class: "baseline" }, html("th", { scope: "row" }, baselineTitle, html("span", { class: "under" }, "baseline")),
    Array.from({ length: width - 3 }, () => html("td")), level(payload.baseline));
}

function armRow(arm) {
  const entry = contrast(arm.name, payload.primary);
  const tag = kindTag(arm);
  return html("tr", {}, html("th", { scope: "row" }, arm.title, tag && html("span", { class: "under" }, tag)), hasVerdicts && verdictCell(entry),
    html("td", { class: "amount" }, change(entry.difference, entry.digits), html("span", { class: "range" }, changeRange(entry.ci95, entry.digits)),
      entry.errors && html("span", { class: "range" }, `errors ${entry.errors.replaceAll("-", "−")}`)),
    html("td", { class: "amount" }, pValue(entry.p_holm), known(entry.p) && html("span", { class: "range" }, `alone ${pValue(entry.p)}`)), level(arm.name));
}

function verdictCell(entry) {
  const verdict = verdictOf(entry);
  return html("td", {}, verdict && badge(verdict), html("span", { class: "why" }, entry.reason ?? needsWords(entry)));
}
