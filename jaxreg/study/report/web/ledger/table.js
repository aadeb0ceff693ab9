// One row per claim: id, quote, its parts with verdict, small picture and effect, regime and cost. It opens to the evidence.

const MINI = { width: 132, height: 22 };

function mini(entry) {
  if (!known(entry.difference)) return null;
  const margin = entry.margin ?? 0;
  const ends = [entry.difference, ...(knownPair(entry.ci95) ? entry.ci95 : [])].map(Math.abs);
  const reach = Math.max(1.4 * margin, ...ends) * 1.08 || 1;
  const x = linear([-reach, reach], [2, MINI.width - 2]);
  const middle = MINI.height / 2;
  return svg("svg", { class: "mini", viewBox: `0 0 ${MINI.width} ${MINI.height}`, "aria-hidden": "true" },
    margin > 0 && svg("rect", { class: "band", x: x(-margin), width: x(margin) - x(-margin), y: 1, height: MINI.height - 2 }),
    svg("line", { class: "zero", x1: x(0), x2: x(0), y1: 1, y2: MINI.height - 1 }),
    knownPair(entry.ci95) && whisker(keyOf(entry), x(entry.ci95[0]), x(entry.ci95[1]), middle),
    mark("diamond", keyOf(entry), x(entry.difference), middle, 5));
}

function partsOf(claim) {
  if (claim.form === "mechanism") return [html("div", { class: "part" }, partBadge("exact"), html("span", {}), html("span", { class: "named" }, plural(claim.tests.length, "test")))];
  if (claim.form === "documents") return claim.findings.map((finding) => html("div", { class: "part" }, partBadge(finding.verdict), html("span", {}), html("span", { class: "named" }, finding.part)));
  if (claim.form === "not testable") return [html("div", { class: "part" }, partBadge("not testable"))];
  return claim.questions.map((question) => html("div", { class: "part" },
    html("span", {}, partBadge(question.verdict, question.reason, question.by_margin), html("span", { class: "named" }, ` ${question.name}`)), mini(question) ?? html("span", {}), html("span", {}, effectText(question), question.errors && html("span", { class: "faint" }, ` ${errorsText(question)}`))));
}

function costText(cost) {
  if (!cost) return "";
  const own = cost.tuning + cost.evaluation;
  return own ? `${own < 10000 ? own.toLocaleString("en") : `${Math.round(own / 1000)}k`} model-steps` : "all shared";
}

function claimRow(claim) {
  const inside = html("div", { class: "inside" });
  const row = html("details", { class: "claim", id: `claim-${claim.id}`, ontoggle: () => { if (row.open && !inside.hasChildNodes()) drawClaim(inside, claim); } },
    html("summary", {}, html("span", { class: "id" }, claim.id), html("span", { class: "quote" }, `“${claim.quote}”`), html("div", { class: "parts" }, partsOf(claim)),
      html("span", { class: "cost" }, [claim.regime, costText(claim.cost)].filter(Boolean).join(" · "))), inside);
  return row;
}

function drawTable(box) {
  const heads = html("div", { class: "heads", "aria-hidden": "true" }, ["claim", "quote", "verdict, effect and 95% interval", "regime, cost"].map((name) => html("span", {}, name)));
  box.append(heads, ...payload.claims.map(claimRow));
}
