// The outcomes as one bar, in the order in which they are listed.
function outcomeBar(width) {
  const [height, gap] = [30, 2];
  const counts = Object.entries(payload.counts);
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  let left = 0;
  const parts = counts.map(([label, count]) => {
    const [badge, room] = [countOf(label), (width * count) / total];
    const part = svg("rect", { class: `share ${badge.classList[1]}`, x: left, width: Math.max(1, room - gap), height, "data-tip": `${count} ${label}` });
    left += room;
    return part;
  });
  const words = counts.map(([label, count]) => `${count} ${label}`).join(", ");
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Outcomes: ${words}` }, parts);
}

function drawPicture(box) {
  const bar = html("div");
  const columns = ["claim", "question", "verdict or reason", "difference", "from", "to", "unit", "margin", "predicted", "p", "p (Holm)"];
  const rows = payload.claims.filter((claim) => claim.form === "experiment").flatMap((claim) => claim.questions.map((entry) => [
    claim.id, entry.name, entry.verdict ?? entry.reason, ...[entry.difference, ...(entry.ci95 ?? [null, null])].map((value) => scaled(value, entry)), entry.unit,
    scaled(entry.margin, entry), entry.predict, entry.p, entry.p_holm]));
  box.append(bar, saving(svgButton("outcomes", bar), csvButton("every question", columns, rows)));
  responsive(bar, outcomeBar);
}

// How many parts came out how, and the rules by which they were judged.

function drawOpening() {
  const tried = payload.claims.filter((claim) => claim.form === "experiment");
  mounted("eyebrow").append(`the ledger · ${plural(payload.claims.length, "claim")} · ${plural(payload.questions_in_family, "primary question")}`);
  mounted("counts").append(...Object.entries(payload.counts).map(([label, count]) => html("li", {}, html("b", {}, String(count)), countOf(label))));
  drawPicture(mounted("picture"));
  if (payload.quick) mounted("warning").append("A quick run: everything ran at the size of a smoke test. It has no verdicts, and its numbers mean nothing.");
  const numbers = [...new Set(tried.map((claim) => claim.seeds.length))].join(" or ");
  mounted("rules").append(
    `Each question has one measure, one contrast of arms and one margin. ${numbers} paired seeds; two-sided sign-flip tests; Holm over all ${payload.questions_in_family} questions at ${payload.alpha}`
    + `${known(payload.smallest_p) ? ` (the smallest corrected p is ${pValue(payload.smallest_p)})` : ""}. Supported needs significance, the claimed direction, and an effect of the margin that is not excluded; `
    + "refuted: the same against the claim, or an effect of the margin excluded. Where a precondition or a control failed, a question is not testable. Errors are the change of the errors, in percent of the baseline's. Where arms tune, each has as many candidates, the baseline too, on seeds that decide nothing.");
  const { pairs, supported_or_opposite: out } = payload.aa;
  if (pairs && !payload.quick) mounted("aa").append(`A/A: of ${plural(pairs, "distinct pair")} of the same arm at other seeds, ${out} came out supported or opposite, uncorrected; about one in twenty may.`);
  mounted("again").append(payload.command);
}
