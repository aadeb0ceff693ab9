// The verb's connections as arcs. Cutting one shows the answer's probability as the model computed it without that connection.

const SLOT = 52; // narrowest column that still holds a word, in pixels

const edgeWeight = (column) => {
  const { weights, query } = matrixData;
  if (!shared.everywhere) return weights[shared.layer][shared.head][query][column];
  return mean(weights.flatMap((heads) => heads.map((head) => head[query][column])));
};
const severedProbability = (column) => (shared.everywhere ? payload.edges.severed[column] : payload.edges.severed_by_head[shared.layer][shared.head][column]);
const currentProbability = () => (shared.cut === null ? payload.edges.probability : severedProbability(shared.cut));
const whereCut = () => (shared.everywhere ? "in all heads and layers" : `in layer ${shared.layer + 1}, head ${shared.head + 1}`);

function drawEdges(box) {
  const scope = choice("Sever it", "edge-scope", [["all", "in all heads and layers"], ["head", "in the head chosen above"]], "all",
    (chosen) => { shared.everywhere = chosen === "all"; announce(); });
  const stage = html("div", { class: "stage" });
  const { node, update } = probabilityBar();
  const numbers = html("div");
  const redraw = responsive(stage, (width) => scrolling("The verb’s connections", edgeStage(Math.max(width, matrixData.words.length * SLOT))));
  box.append(html("div", { class: "controls-row" }, scope), html("div", { class: "edge-figure" }, stage, node), saving(svgButton("connections", stage)), numbers);
  shared.listeners.push(() => {
    keepFocus(stage, redraw);
    update();
    const open = numbers.querySelector("details")?.open ?? false;
    numbers.replaceChildren(edgeNumbers());
    numbers.querySelector("details").open = open;
  });
}

function edgeStage(width) {
  const { words, query } = matrixData;
  const slot = width / words.length;
  const far = Math.max(query, words.length - 1 - query) * slot;
  const base = Math.min(190, Math.max(80, far * 0.42)) + 16;
  const at = (column) => (column + 0.5) * slot;
  const arcs = words.map((_, column) => edgeArc(column, at(query), at(column), base, far));
  const picture = svg("svg", { class: "arcs", viewBox: `0 0 ${width} ${base}`, width, height: base, "aria-hidden": "true" }, arcs);
  const buttons = words.map((word, column) => html("button", { type: "button", class: `word${column === query ? " verb" : ""}${shared.cut === column ? " severed" : ""}`, "data-edge": column,
    "aria-pressed": String(shared.cut === column), "aria-label": `${word} ${weight(edgeWeight(column))}, the weight of ${verbWord()} → ${word}: ${shared.cut === column ? "mend" : "sever"}`,
    onclick: () => sever(column) }, html("span", {}, word), " ", html("span", { class: "small" }, weight(edgeWeight(column)))));
  return html("div", { class: "edge-stage", style: `width:${width}px` }, picture, html("div", { class: `words${isCrowded() ? " crowded" : ""}`, style: `grid-template-columns:repeat(${words.length},1fr)` }, buttons));
}

function edgeArc(column, from, to, base, far) {
  const loop = column === matrixData.query;
  const height = loop ? 46 : ((Math.abs(from - to) / far) * (base - 16)) / 0.75;
  const shape = loop ? `M${from - 4} ${base}C${from - 38} ${base - height} ${from + 38} ${base - height} ${from + 4} ${base}`
    : `M${from} ${base}C${from} ${base - height} ${to} ${base - height} ${to} ${base}`;
  const cut = shared.cut === column;
  const value = edgeWeight(column);
  const tip = `${verbWord()} → ${matrixData.words[column]}: ${weight(value)}, ${cut ? "severed" : "click to sever"}`;
  return svg("g", { class: `arc${cut ? " severed" : ""}`, "data-arc": column, "data-tip": tip, onclick: () => sever(column) },
    svg("path", { class: "reach", d: shape }), svg("path", { class: "wire", d: shape, style: `--w:${known(value) ? value.toFixed(3) : 0}` }),
    cut ? mark("cross", "cut", (from + to) / 2, base - height * 0.75, 7) : null);
}

function probabilityBar() {
  const { answer, foil, probability } = payload.edges;
  const bar = html("div", { class: "bar-fill" });
  const number = html("output", { id: "probability", class: "big-number" });
  const text = html("p", { id: "probability-text", class: "small", "aria-live": "polite" });
  const place = (value) => `${(100 * (known(value) ? value : 0)).toFixed(2)}%`;
  const track = html("div", { class: "bar", "aria-hidden": "true" }, bar, html("div", { class: "bar-mark", style: `left:${place(probability)}` }), html("div", { class: "bar-half" }));
  const node = html("div", { class: "probability" }, html("p", { class: "answer-word" }, "probability of ", html("b", {}, `“${answer}”`)), number, track,
    html("p", { class: "bar-ends" }, html("span", {}, `says “${foil}”`), html("span", {}, "50%"), html("span", {}, `says “${answer}”`)), text);
  const update = () => {
    const now = currentProbability();
    bar.style.width = place(now);
    bar.classList.toggle("wrong", known(now) && now < 0.5);
    number.textContent = percent(now);
    text.textContent = probabilityText(now);
  };
  return { node, update };
}

function probabilityText(now) {
  const { answer, foil, probability } = payload.edges;
  if (shared.cut === null) return `All connections intact. The model says “${probability >= 0.5 ? answer : foil}”.`;
  return `${verbWord()} → ${matrixData.words[shared.cut]} severed ${whereCut()}: ${percent(probability)} before, ${percent(now)} now (${points(now - probability)} points). `
    + `The model says “${now >= 0.5 ? answer : foil}”.`;
}

function edgeNumbers() {
  const rows = matrixData.words.map((word, column) => [`${verbWord()} → ${word}`, weight(edgeWeight(column)), percent(severedProbability(column)), points(severedProbability(column) - payload.edges.probability)]);
  return numbersTable(`Every cut in numbers (${whereCut()})`, ["connection", "weight", `probability of “${payload.edges.answer}” when severed`, "change, points"], rows);
}
