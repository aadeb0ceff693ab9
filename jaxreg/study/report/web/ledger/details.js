// The evidence of one claim, drawn when its row is opened.

function drawClaim(box, claim) {
  const words = [["Hypothesis", claim.hypothesis], ["Refuted if", claim.refuted_if], ["Predicted", claim.prediction], ["How to read it", claim.reading], ["Published", claim.published], ["Scope", claim.scope]];
  box.append(html("dl", {}, words.filter(([, text]) => text).map(([name, text]) => [html("dt", {}, name), html("dd", {}, text)])));
  for (const change of claim.changed_after_training ?? []) {
    box.append(html("p", { class: "why" }, html("span", { class: "failed" }, "Changed after training began: "), `${change.field} is ${change.now}, declared was ${change.declared}.`));
  }
  for (const line of claim.cautions ?? []) box.append(html("p", { class: "why" }, html("b", {}, "To be read with care: "), `${line}.`));
  if (claim.untestable) box.append(html("p", { class: "why" }, claim.untestable));
  if (claim.tests.length) box.append(html("h3", {}, "Tests that show it"), html("ul", { class: "tests" }, claim.tests.map((test) => html("li", {}, html("code", {}, test)))));
  for (const finding of claim.findings) box.append(html("h3", {}, finding.part, " ", partBadge(finding.verdict)), html("p", { class: "why" }, finding.evidence));
  if (claim.form !== "experiment") return;
  for (const question of claim.questions) drawQuestion(box, claim, question);
  if (claim.secondary.length) drawSecondary(box, claim);
  drawArms(box, claim);
}

function drawQuestion(box, claim, question) {
  const p = known(question.p_holm) ? `; p ${pValue(question.p)}, after Holm ${pValue(question.p_holm)}` : "";
  const needs = known(question.seeds_needed) ? `; ${question.seeds_needed} seeds would decide` : "";
  const asked = `${question.measure}: ${contrastText(question)}; ${question.kind}, margin ${level(question.margin, question)} ${question.unit}`;
  box.append(html("h3", {}, question.name, " ", partBadge(question.verdict, question.reason, question.by_margin)), html("p", { class: "why small" }, asked),
    html("p", { class: "why" }, [effectText(question), errorsText(question), question.verdict && `${question.reason}${p}${needs}`, `predicted ${signed(question.predict, 1)}`].filter(Boolean).join(" · ")));
  if (known(question.difference)) {
    const chart = html("div");
    box.append(chart);
    responsive(chart, (width) => rowChart(width, questionSpec(claim, question)));
    box.append(saving(svgButton(`${claim.id} ${question.name}`, chart)), levels(claim, question));
  }
  drawChecks(box, question);
}

const contrastText = (entry) => Object.entries(entry.contrast).map(([arm, weight], index) => {
  const sign = weight < 0 ? "−" : index ? "+" : "";
  return `${sign}${Math.abs(weight) === 1 ? "" : `${Math.abs(weight)} × `}${index ? " " : ""}${arm}`;
}).join(" ");

function questionSpec(claim, question) {
  const margin = scaled(question.margin, question);
  const values = [...question.per_seed, ...(question.ci95 ?? [])].map((value) => scaled(value, question));
  const found = chartRow(claim, question, question.name);
  const predicted = {
    title: "predicted", key: "predicted", side: signed(question.predict, 1), tip: `predicted before running: ${signed(question.predict, 1)} ${question.unit}`,
    draw: (group, x) => group.append(mark("diamond", "predicted", x(question.predict), 12, 6)),
  };
  return {
    label: `${question.name}: ${question.measure}, seed by seed`, axis: question.unit, domain: extent(values.concat(question.predict), [-1.3 * margin, 1.3 * margin]),
    tick: (value, all) => signed(value, tickDigits(all)), lane: 46, band: [-margin, margin], lines: [{ at: 0, text: `no effect · margin ±${level(question.margin, question)}`, key: "zero" }],
    rows: [found, predicted],
  };
}

function chartRow(claim, entry, title) {
  const key = keyOf(entry);
  return {
    title, key, side: effectText(entry), sideKey: `ink-${key}`, tip: `${title}: ${effectText(entry)}`,
    draw: (group, x) => effectMarks(group, (value) => x(scaled(value, entry)), key, entry,
      entry.per_seed.map((value, index) => ({ value, tip: `seed ${claim.seeds[index]}: ${amount(value, entry)} ${entry.unit}` }))),
  };
}

function levels(claim, question) {
  const rows = Object.entries(question.arms).map(([arm, found]) => [arm, level(found.mean, question), knownPair(found.ci95) ? `${level(found.ci95[0], question)} to ${level(found.ci95[1], question)}` : DASH, ...found.per_seed.map((value) => level(value, question))]);
  return numbersTable(`${claim.id}, ${question.name}: ${question.measure} of each arm, seed by seed (${question.unit})`, ["arm", "mean", "95% interval", ...claim.seeds.map((seed) => `seed ${seed}`)], rows);
}

function drawChecks(box, question) {
  const all = [...question.preconditions, ...question.controls];
  if (!all.length) return;
  const mark = (check) => (check.passed === true ? html("span", { class: "passed" }, "✓ ") : html("span", { class: "failed" }, check.passed === false ? "✗ failed: " : "? not judged: "));
  box.append(html("h3", {}, "Preconditions and controls"), html("ul", { class: "checks" }, all.map((check) => html("li", {}, mark(check), check.what, html("span", { class: "faint" }, ` ${check.detail}`)))));
}

// Secondary effects of one unit share a chart: effect and interval, no verdict.
function drawSecondary(box, claim) {
  box.append(html("h3", {}, "Beside it: effects without verdicts"));
  for (const unit of new Set(claim.secondary.map((entry) => entry.unit))) {
    const entries = claim.secondary.filter((entry) => entry.unit === unit);
    const values = entries.flatMap((entry) => [...entry.per_seed, ...(entry.ci95 ?? [])].map((value) => scaled(value, entry)));
    const chart = html("div");
    box.append(chart, saving(svgButton(`${claim.id} beside it, ${unit}`, chart)));
    responsive(chart, (width) => rowChart(width, {
      label: `Secondary effects in ${unit}`, axis: unit, domain: extent(values, [0]), tick: (value, all) => signed(value, tickDigits(all)), lane: 46, band: null,
      lines: [{ at: 0, text: "no effect", key: "zero" }], rows: entries.map((entry) => chartRow(claim, entry, entry.name)),
    }));
  }
}

function drawArms(box, claim) {
  const rows = claim.arms.map((arm) => [arm.name, arm.title, [settingText(arm.diff), settingText(arm.setting), arm.config].filter(Boolean).join("; ") || "as the config",
    arm.tuned ? `${settingText(arm.tuned)}${arm.like ? ` (as ${arm.like})` : ""}` : DASH, Object.entries(arm.sweep).map(([field, values]) => `${field}: ${values.join(", ")}`).join("") || DASH,
    arm.diverged ? `${arm.diverged[0]} of ${arm.diverged[1]}` : DASH]);
  const arms = numbersTable(`Arms of ${claim.id}`, ["arm", "what", "differs in", "tuned", "sweep", "diverged"], rows);
  arms.open = true;
  box.append(html("h3", {}, "Arms and tuning"), arms);
  const tuned = claim.arms.filter((arm) => arm.tuning).flatMap((arm) => arm.tuning.options.map((option, index) => [arm.name, settingText(option), percent(arm.tuning.scores[index]), index === arm.tuning.chosen ? "chosen" : ""]));
  if (tuned.length) box.append(numbersTable(`What was tried for ${claim.id}: validation accuracy, mean over the tuning seeds ${claim.tuning_seeds.join(", ")}`, ["arm", "candidate", "validation", ""], tuned));
  if (claim.cost) box.append(html("p", { class: "small" }, `${plural(claim.cost.members, "member")}: ${claim.cost.tuning.toLocaleString("en")} model-steps of tuning, ${claim.cost.evaluation.toLocaleString("en")} of evaluation, ${claim.cost.shared.toLocaleString("en")} shared with claims above.`));
}
