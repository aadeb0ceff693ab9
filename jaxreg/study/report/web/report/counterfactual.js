// One dropped connection of one training step kept, and the member trained again: the verb's row in each head, coloured by what that changed.

const keptData = payload.counterfactual;
const keptVerb = () => keptData.words[keptData.query];
const answerChange = (row) => row.change.probability;
const nats = (value) => (known(value) ? signed(value, 5) : DASH);

function drawCounterfactual(box) {
  const { text, arm, arm_title: title, seed, step, example, connections, left_out: leftOut, view_title: view } = keptData;
  mounted("counterfactual-words").append("The training sentence ", sentence(text), ` of `, html("em", {}, title ?? arm), `, seed ${seed}, in step ${step} (sentence ${example + 1} of its batch). For each connection that this step `
    + `dropped of ${keptVerb()}’s row, the model was trained again from its start with that one connection kept. ${keptData.what} ${keptData.caution}`);
  const strongest = best(connections, (row) => (known(answerChange(row)) ? Math.abs(answerChange(row)) : null));
  const found = strongest === null ? ["No member came to an answer."]
    : ["Most was changed by ", html("b", {}, edgeName(strongest)), ` in layer ${strongest.layer + 1}, head ${strongest.head + 1}: `, html("b", {}, `${points(answerChange(strongest), 3)} points`),
      ` of the probability of “${keptData.answer}”, which is ${percent(keptData.factual.probability, 2)} with nothing kept.`];
  const missing = leftOut > 0 ? html("p", { class: "note" }, `${plural(leftOut, "more connection")} of this row that the step dropped ${leftOut === 1 ? "was" : "were"} not trained.`) : null;
  box.append(shows(...found), scrolling("What each kept connection changed", keptRows()), keptKey(), ...(missing ? [missing] : []), keptNumbers(view));
}

const edgeName = (row) => `${keptVerb()} → ${row.word}`;

function keptRows() {
  const { words, dropped } = keptData;
  const scale = Math.max(...keptData.connections.map((row) => Math.abs(answerChange(row) ?? 0)), 1e-12);
  const head = html("tr", {}, html("td"), words.map((word) => html("th", { scope: "col" }, word)));
  const rows = dropped.flatMap((heads, layer) => heads.map((bits, index) => html("tr", { class: index === 0 ? "layer-start" : null }, html("th", { scope: "row" }, `layer ${layer + 1}, head ${index + 1}`),
    words.map((_, key) => keptCell(layer, index, key, bits[key] === "1", scale)))));
  return html("table", { class: `weights kept-rows${words.length > 8 ? " crowded" : ""}`, style: `min-width:${words.length * 58 + 140}px` }, html("thead", {}, head), html("tbody", {}, rows));
}

function keptCell(layer, head, key, wasDropped, scale) {
  const place = `${keptVerb()} → ${keptData.words[key]}, layer ${layer + 1}, head ${head + 1}`;
  if (!wasDropped) return html("td", { class: "untouched", "data-tip": `${place}: this step kept it` }, "·");
  const row = keptData.connections.find((one) => one.layer === layer && one.head === head && one.key === key);
  if (row === undefined) return html("td", { class: "dropped", "data-tip": `${place}: dropped; not trained again` }, html("span", { class: "unseen" }, "dropped, not trained again"));
  const change = answerChange(row);
  const direction = !known(change) || change === 0 ? "level" : change > 0 ? "raised" : "lowered";
  return html("td", { class: `effect ${direction}`, style: `--w:${known(change) ? (Math.abs(change) / scale).toFixed(3) : 0}`, tabindex: "0", "data-tip": `${place}, kept: ${effectText(row)}` }, points(change, 3));
}

function effectText(row) {
  if (!known(row.probability)) return "training diverged";
  return `“${keptData.answer}” ${percent(row.probability, 3)} (${points(answerChange(row), 3)} points), ${keptData.view_title} ${points(row.change.accuracy, 2)} points, its loss ${nats(row.change.loss)} nats, `
    + `parameters moved by ${percent(row.distance, 3)}`;
}

function keptKey() {
  const sample = (classes, content) => html("span", { class: `sample ${classes}`, style: "--w:.8" }, content);
  return html("p", { class: "key" },
    html("span", {}, sample("effect raised", "+"), "dropped; kept, the answer comes out more probable, in points"),
    html("span", {}, sample("effect lowered", "−"), "less probable"),
    html("span", {}, sample("untouched", "·"), "kept by this step as it was"),
    keptData.connections.length < keptData.dropped.flat().join("").replaceAll("0", "").length ? html("span", {}, sample("dropped", ""), "dropped, not trained again") : null);
}

function keptNumbers(view) {
  const { factual } = keptData;
  const rows = keptData.connections.map((row) => [`layer ${row.layer + 1}, head ${row.head + 1}: ${edgeName(row)} (word ${row.key + 1})`, percent(row.probability, 3), points(answerChange(row), 3),
    points(row.change.accuracy, 2), nats(row.change.loss), percent(row.distance, 3)]);
  const first = ["nothing kept", percent(factual.probability, 3), DASH, percent(factual.accuracy, 2), known(factual.loss) ? factual.loss.toFixed(5) : DASH, DASH];
  return numbersTable("Every kept connection in numbers", ["kept", `probability of “${keptData.answer}”`, "change, points", `${view}, points`, "its loss, nats", "parameters, relative distance"], [first, ...rows]);
}
