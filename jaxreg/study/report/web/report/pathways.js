// What is left when the verb's connection to the noun, to the determiner, or to both is cut.

const PATHWAYS = [
  { name: "intact", text: "intact", shape: "circle", key: "path-0", noun: true, determiner: true },
  { name: "noun_cut", text: "noun cut", shape: "triangle", key: "path-1", noun: false, determiner: true },
  { name: "determiner_cut", text: "determiner cut", shape: "square", key: "path-2", noun: true, determiner: false },
  { name: "both_cut", text: "both cut", shape: "cross", key: "path-3", noun: false, determiner: false },
];
const CHANCE = 0.5;

function drawPathways(box) {
  const shown = arms.filter((arm) => payload.pathways?.[arm.name]);
  const chart = html("div");
  const figure = html("div", {}, html("div", { class: "path-legend" }, PATHWAYS.map(pathwayDiagram)), chart);
  box.append(pathwayFinding(shown) ?? "", figure, saving(svgButton("cuts", figure)), pathwayNumbers(shown));
  responsive(chart, (width) => rowChart(width, pathwaySpec(shown)));
}

// A tiny drawing of the cut: "a dog SIT" with the verb's two connections.
function pathwayDiagram(path) {
  const [determiner, noun, verb] = [20, 62, 112];
  const arc = (to, whole) => {
    const middle = (verb + to) / 2;
    const height = (verb - to) * 0.42;
    return [svg("path", { class: whole ? "wire" : "wire cut", d: `M${verb} 44C${verb} ${44 - height} ${to} ${44 - height} ${to} 44` }),
      whole ? null : mark("cross", "cut", middle, 44 - height * 0.75, 4)];
  };
  const words = [[determiner, "a"], [noun, "dog"], [verb, "SIT"]].map(([x, word]) => svg("text", { class: "diagram-word", x, y: 59, "text-anchor": "middle" }, word));
  const picture = svg("svg", { viewBox: "0 0 132 64", width: 132, height: 64, "aria-hidden": "true" }, arc(determiner, path.determiner), arc(noun, path.noun), words);
  const sample = svg("svg", { width: 16, height: 16, "aria-hidden": "true" }, mark(path.shape, path.key, 8, 8, 5));
  return html("figure", {}, picture, html("figcaption", {}, sample, path.text));
}

const pathwayOf = (arm, name) => payload.pathways[arm.name]?.[name] ?? null;

// What survives whichever single cut hurts more.
const weakerPath = (arm) => {
  const both = ["noun_cut", "determiner_cut"].map((name) => pathwayOf(arm, name)?.mean);
  return both.every(known) ? Math.min(...both) : NaN;
};

function pathwaySpec(shown) {
  const values = shown.flatMap((arm) => PATHWAYS.flatMap(({ name }) => [pathwayOf(arm, name)?.mean, ...(pathwayOf(arm, name)?.ci95 ?? [])]));
  return {
    label: "Accuracy with connections cut, per arm", axis: "accuracy on held-out pairs with an informative determiner",
    domain: extent(values, [CHANCE - 0.02, 1], 0.01), tick: (value, all) => percent(value, tickDigits(all, 100)), lane: 44, sideName: "after the worse single cut",
    lines: [{ at: CHANCE, text: "chance", key: "chance" }],
    rows: shown.map((arm) => ({
      title: arm.title ?? arm.name, tag: kindTag(arm), side: [percent(weakerPath(arm))],
      tip: `${arm.title}: ${PATHWAYS.map(({ name, text }) => `${text} ${percent(pathwayOf(arm, name)?.mean)}`).join(", ")}`,
      draw: (group, x) => PATHWAYS.forEach(({ name, shape, key }, index) => {
        const found = pathwayOf(arm, name);
        const y = 5 + index * 11;
        if (knownPair(found?.ci95)) group.append(whisker(`${key} thin`, x(found.ci95[0]), x(found.ci95[1]), y));
        if (known(found?.mean)) group.append(mark(shape, key, x(found.mean), y, 4.6));
      }),
    })),
  };
}

function pathwayFinding(shown) {
  const baseline = shown.find((arm) => arm.name === payload.baseline);
  const top = best(shown.filter((arm) => arm.kind === "arm"), weakerPath);
  const both = shown.map((arm) => pathwayOf(arm, "both_cut")?.mean).filter(known);
  const parts = [];
  if (baseline && top && known(weakerPath(baseline))) {
    parts.push(`After the cut that hurts more, ${quoted(baseline)} keeps ${percent(weakerPath(baseline), 0)}`
      + (top === baseline ? ", more than any other arm." : `; ${quoted(top)} keeps the most, ${percent(weakerPath(top), 0)}.`));
  }
  if (both.length) parts.push(`With both cut, all arms lie between ${percent(Math.min(...both))} and ${percent(Math.max(...both))}.`);
  return parts.length ? shows(parts.join(" ")) : null;
}

function pathwayNumbers(shown) {
  const cell = (found) => (found ? `${percent(found.mean)} (${percentRange(found.ci95)})` : DASH);
  const rows = shown.map((arm) => [arm.title, ...PATHWAYS.map(({ name }) => cell(pathwayOf(arm, name)))]);
  return numbersTable("The cuts in numbers", ["arm", ...PATHWAYS.map(({ text }) => text)], rows);
}
