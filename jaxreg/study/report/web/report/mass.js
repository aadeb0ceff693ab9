// How much of the verb's attention falls on the noun and on the determiner.

const LOOKED_AT = [
  { name: "noun", text: "on the noun", shape: "circle", key: "path-0" },
  { name: "determiner", text: "on the determiner", shape: "square", key: "path-2" },
];
const massOf = (arm, name) => payload.attention_mass[arm.name]?.[name] ?? null;
const dropsAttention = (arm) => (arm.diff?.["model.attention_dropout_rate"] ?? 0) > 0;

function drawMass(box) {
  const shown = arms.filter((arm) => payload.attention_mass?.[arm.name]);
  const chart = html("div");
  const legend = html("div", { class: "legend" }, LOOKED_AT.map(({ shape, key, text }) => html("span", {},
    svg("svg", { width: 16, height: 16, "aria-hidden": "true" }, mark(shape, key, 8, 8, 5)), text)));
  const figure = html("div", {}, html("div", { class: "controls-row" }, legend), chart);
  box.append(massFinding(shown), figure, saving(svgButton("attention", figure)), massNumbers(shown));
  responsive(chart, (width) => rowChart(width, massSpec(shown)));
}

function massSpec(shown) {
  const values = shown.flatMap((arm) => LOOKED_AT.flatMap(({ name }) => [...(massOf(arm, name)?.per_seed ?? []), ...(massOf(arm, name)?.ci95 ?? [])]));
  const reference = massOf({ name: payload.baseline }, "noun")?.mean;
  return {
    label: "The verb's attention on noun and determiner, per arm", axis: "share of the verb’s attention",
    domain: extent(values, [0], 0.02), tick: (value, all) => percent(value, tickDigits(all, 100)), lane: 56,
    lines: known(reference) ? [{ at: reference, text: `noun, ${baselineTitle}`, key: "reference" }] : [],
    rows: shown.map((arm) => ({
      title: arm.title ?? arm.name, tag: kindTag(arm) ?? (dropsAttention(arm) ? "with dropout" : null),
      side: [`noun ${percent(massOf(arm, "noun")?.mean)}`, `determiner ${percent(massOf(arm, "determiner")?.mean)}`],
      tip: `${arm.title}: ${LOOKED_AT.map(({ name, text }) => `${percent(massOf(arm, name)?.mean)} ${text}`).join(", ")}`,
      draw: (group, x) => LOOKED_AT.forEach((word, index) => drawMassLane(group, x, massOf(arm, word.name), word, 8 + index * 28)),
    })),
  };
}

function drawMassLane(group, x, found, { shape, key, text }, y) {
  const dots = swarm(found?.per_seed ?? [], x, y + 12, 2.6, 5);
  group.append(...dots.map((dot) => svg("circle", { class: `seed ${key}`, cx: dot.x, cy: dot.y, r: 2.6, "data-tip": `seed ${seeds[dot.index] ?? dot.index}: ${percent(dot.value)} ${text}` })));
  if (knownPair(found?.ci95)) group.append(whisker(key, x(found.ci95[0]), x(found.ci95[1]), y));
  if (known(found?.mean)) group.append(mark(shape, key, x(found.mean), y, 5));
}

// Only arms that differ from the baseline in nothing else: anything more would be another comparison.
function massFinding(shown) {
  const onNoun = (arm) => percent(massOf(arm, "noun")?.mean, 0);
  const baseline = shown.find((arm) => arm.name === payload.baseline);
  const alone = shown.filter((arm) => arm.kind === "arm" && dropsAttention(arm) && Object.keys(arm.diff).length === 1);
  if (!baseline || !alone.length || dropsAttention(baseline)) return "";
  return shows(`${quoted(baseline)} puts ${onNoun(baseline)} of the verb’s attention on the noun; ${listed(alone.map((arm) => `${quoted(arm)} ${onNoun(arm)}`))}.`);
}

function massNumbers(shown) {
  const cell = (found) => (found ? `${percent(found.mean)} (${percentRange(found.ci95)})` : DASH);
  const rows = shown.map((arm) => [arm.title, ...LOOKED_AT.map(({ name }) => cell(massOf(arm, name)))]);
  return numbersTable("The verb’s attention in numbers", ["arm", ...LOOKED_AT.map(({ text }) => text)], rows);
}
