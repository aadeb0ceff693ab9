// The two matrices: attention weights of a trained model before and after the connections that a real training step dropped.

const TINY = 0.005; // what two decimals show as 0.00
const shared = { layer: 0, head: 0, step: 0, cut: null, everywhere: true, listeners: [] };
const announce = () => shared.listeners.forEach((listener) => listener());

const matrixData = payload.matrices;
const isCrowded = () => matrixData.words.length > 8; // words get too narrow to stand side by side
const verbWord = () => matrixData.words[matrixData.query];
const keptAt = (layer, head, row, column) => matrixData.steps[shared.step]?.kept[layer][head][row * matrixData.words.length + column] !== "0";

function drawMatrices(box) {
  const { text, arm, seed, rate } = matrixData;
  mounted("sentence").append("Attention in a trained model (", html("em", {}, armTitle(arm)), `, seed ${seed}) for `, sentence(text), ". Before dropping: every weight, as the model uses them once it is trained. ",
    `After dropping: the same weights under the mask that a chosen training step really drew for this sentence, at rate ${percent(rate, 0)}. A row is the word that looks, a column the word looked at; `
    + "the verb’s row is outlined. The model reads in both directions.");
  const pick = html("div", { class: "thumbnails", role: "radiogroup", "aria-label": "Layer and head" });
  const before = html("div", { class: "matrix", id: "before" });
  const after = html("div", { class: "matrix", id: "after" });
  const note = html("p", { class: "shows", id: "dropped-note", "aria-live": "polite" });
  box.append(html("div", { class: "matrix-controls" }, pick, stepSlider()), note, html("div", { class: "pair" }, before, after), matrixKey(),
    saving(drawingButton("attention weights", matricesText),
      csvButton("attention weights", ["layer", "head", "row", "column", "weight", "kept"], matrixRaw)));
  shared.listeners.push(() => {
    keepFocus(before, () => before.replaceChildren(matrixTitle("before dropping", ""), scrolling("Weights before dropping", matrixTable(false))));
    after.replaceChildren(matrixTitle("after dropping", `at step ${matrixData.steps[shared.step]?.step ?? DASH}`), scrolling("Weights after dropping", matrixTable(true)));
    drawThumbnails(pick);
    note.replaceChildren(...droppedNote());
  });
}

// Every weight of every head, and whether the chosen step kept it. Words are numbered: one may stand twice.
function matrixRaw() {
  const named = matrixData.words.map((word, place) => `${place + 1} ${word}`);
  return matrixData.weights.flatMap((heads, layer) => heads.flatMap((rows, head) => rows.flatMap((weights, row) => weights.map((value, column) => [
    layer + 1, head + 1, named[row], named[column], value, keptAt(layer, head, row, column) ? 1 : 0]))));
}

const matrixTitle = (name, when) => html("p", { class: "matrix-title" }, html("b", {}, name), ` ${when}`,
  html("span", { class: "faint" }, ` · layer ${shared.layer + 1}, head ${shared.head + 1}`));

// Rebuilds a part of the page and gives the focus back to the same button.
function keepFocus(part, rebuild) {
  const focused = part.contains(document.activeElement) ? document.activeElement.dataset.edge : undefined;
  rebuild();
  if (focused !== undefined) part.querySelector(`[data-edge="${focused}"]`)?.focus({ preventScroll: true });
}

function matrixTable(dropping) {
  const { words, query } = matrixData;
  const head = html("tr", {}, html("td"), words.map((word) => html("th", { scope: "col" }, word)), html("th", { scope: "col", class: "total", "data-tip": "sum of the row" }, "Σ"));
  const rows = words.map((word, row) => html("tr", { class: row === query ? "verb" : null }, html("th", { scope: "row" }, word),
    words.map((_, column) => matrixCell(row, column, dropping)), html("td", { class: "total" }, weight(rowTotal(row, dropping)))));
  return html("table", { class: `weights${isCrowded() ? " crowded" : ""}`, style: `min-width:${words.length * 32 + 118}px` }, html("thead", {}, head), html("tbody", {}, rows));
}

const weightAt = (row, column) => matrixData.weights[shared.layer][shared.head][row][column];

// After dropping a kept weight is scaled, and a dropped one is 0.
function weightUsed(row, column, dropping) {
  const old = weightAt(row, column);
  if (!dropping || !known(old)) return old;
  return keptAt(shared.layer, shared.head, row, column) ? old * matrixData.scale : 0;
}

function rowTotal(row, dropping) {
  const terms = matrixData.words.map((_, column) => weightUsed(row, column, dropping));
  return terms.every(known) ? terms.reduce((total, term) => total + term, 0) : null;
}

function matrixCell(row, column, dropping) {
  const { words, query, scale } = matrixData;
  const old = weightAt(row, column);
  const edge = `${words[row]} → ${words[column]}`;
  if (dropping && !keptAt(shared.layer, shared.head, row, column)) {
    return html("td", { class: "dropped", "data-tip": `${edge}: dropped, was ${weight(old)}` }, html("s", {}, weight(old)), html("span", { class: "unseen" }, " dropped"));
  }
  const value = weightUsed(row, column, dropping);
  const tip = dropping ? `${edge}: kept, ${weight(old)} × ${weight(scale)} = ${weight(value)}` : `${edge}: ${weight(value)}`;
  const look = { class: cellClass(value), style: `--w:${known(value) ? Math.min(1, value).toFixed(3) : 0}`, "data-tip": tip };
  if (dropping || row !== query || !payload.edges) return html("td", look, weight(value));
  const cut = shared.cut === column;
  return html("td", { ...look, class: `${look.class} edge${cut ? " severed" : ""}` }, html("button", { type: "button", "data-edge": column, "aria-pressed": String(cut),
    "aria-label": `${edge}, ${weight(value)}: ${cut ? "mend" : "sever"}`, onclick: () => sever(column) }, cut ? html("s", {}, weight(value)) : weight(value)));
}

function cellClass(value) {
  return known(value) && value < TINY ? "kept tiny" : "kept";
}

function sever(column) {
  shared.cut = shared.cut === column ? null : column;
  announce();
}

function stepSlider() {
  const count = matrixData.steps.length;
  const output = html("output", { id: "step-number" });
  const slider = html("input", { type: "range", id: "step", min: 0, max: Math.max(0, count - 1), step: 1, value: 0, disabled: count < 2, "aria-label": "Training step" });
  const go = (index) => { shared.step = Math.min(count - 1, Math.max(0, index)); announce(); };
  slider.addEventListener("input", () => go(Number(slider.value)));
  const button = (label, symbol, move) => html("button", { type: "button", class: "nudge", "aria-label": label, onclick: () => go(shared.step + move) }, symbol);
  shared.listeners.push(() => {
    const step = matrixData.steps[shared.step];
    slider.value = shared.step;
    slider.setAttribute("aria-valuetext", step ? `step ${step.step}` : DASH);
    output.textContent = step ? `step ${step.step}` : DASH;
  });
  return html("div", { class: "slider" }, html("p", { class: "slider-title" }, "Training step ", output),
    html("div", { class: "slider-row" }, button("Earlier step", "‹", -1), slider, button("Later step", "›", 1)),
    html("p", { class: "small" }, `The ${plural(count, "step")} that had this sentence in the batch.`));
}

// One tiny matrix per layer and head, as radio buttons: the whole model at a glance.
function drawThumbnails(box) {
  if (!box.childElementCount) box.append(...matrixData.weights.map((heads, layer) => html("div", { class: "thumbnail-row" },
    html("span", { class: "small" }, `layer ${layer + 1}`), heads.map((_, head) => thumbnail(layer, head)))));
  box.querySelectorAll("svg").forEach((picture) => picture.replaceChildren(...thumbnailCells(Number(picture.dataset.layer), Number(picture.dataset.head))));
}

function thumbnail(layer, head) {
  const size = matrixData.words.length;
  const input = html("input", { type: "radio", name: "head", value: `${layer}-${head}`, "aria-label": `layer ${layer + 1}, head ${head + 1}`, checked: layer === shared.layer && head === shared.head,
    onchange: () => { Object.assign(shared, { layer, head }); announce(); } });
  return html("label", { "data-tip": `layer ${layer + 1}, head ${head + 1}` }, input,
    svg("svg", { viewBox: `0 0 ${size} ${size}`, "data-layer": layer, "data-head": head, "aria-hidden": "true", "shape-rendering": "crispEdges" }));
}

function thumbnailCells(layer, head) {
  const { words, weights } = matrixData;
  return words.flatMap((_, row) => words.map((__, column) => {
    const kept = keptAt(layer, head, row, column);
    const value = weights[layer][head][row][column];
    return svg("rect", { class: kept ? "thumb" : "thumb gone", style: `--w:${known(value) ? value.toFixed(2) : 0}`, x: column, y: row, width: 1, height: 1 });
  }));
}

function droppedNote() {
  const { words, steps, query, weights, scale } = matrixData;
  const step = steps[shared.step];
  if (!step) return ["No training step was recorded for this sentence."];
  const total = words.length ** 2;
  const gone = [...step.kept[shared.layer][shared.head]].filter((bit) => bit === "0").length;
  const lost = words.filter((_, column) => !keptAt(shared.layer, shared.head, query, column));
  const pull = words.map((_, column) => mean(weights.flatMap((heads) => heads.map((head) => head[query][column]))));
  const strongest = pull.indexOf(Math.max(...pull));
  const copies = weights.flatMap((heads, layer) => heads.map((_, head) => keptAt(layer, head, query, strongest)));
  return [html("b", {}, `Step ${step.step}`), ` (sentence ${step.example + 1} of its batch) dropped `, html("b", { id: "dropped-count" }, String(gone)), ` of ${total} connections in this head; `,
    lost.length ? `${verbWord()} could not see ${listed(lost.map((word) => `“${word}”`))}. ` : `${verbWord()} saw every word. `, `The others are multiplied by ${weight(scale)}. `,
    `Its strongest connection, ${verbWord()} → ${words[strongest]}, survived in ${copies.filter(Boolean).length} of ${copies.length} heads.`];
}

function matrixKey() {
  const sample = (classes, content, style = "") => html("span", { class: `sample ${classes}`, style }, content);
  return html("p", { class: "key" },
    html("span", {}, sample("kept", "0.40", "--w:.4"), "kept: the stronger the color, the more attention"),
    html("span", {}, sample("dropped", html("s", {}, "0.40")), "dropped: crossed out, with the weight it had"),
    html("span", {}, sample("kept tiny", "0.00", "--w:0"), "not dropped, merely tiny (below .005)"));
}
