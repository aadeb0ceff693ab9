// How many parts came out how, and the rules by which they were judged.

function drawOpening() {
  const tried = payload.claims.filter((claim) => claim.form === "experiment");
  mounted("eyebrow").append(`the ledger · ${plural(payload.claims.length, "claim")} · ${plural(payload.questions_in_family, "primary question")}`);
  mounted("counts").append(...Object.entries(payload.counts).map(([label, count]) => html("li", {}, html("b", {}, String(count)), countOf(label))));
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
