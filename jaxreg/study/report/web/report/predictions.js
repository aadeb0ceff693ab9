// What was predicted, and what was found.

const inside = (entry) => known(entry.predicted) && knownPair(entry.ci95) && entry.predicted >= entry.ci95[0] && entry.predicted <= entry.ci95[1];

// Predictions are written in points (or nats) by people; everything here is a fraction (or nats).
const fraction = (value) => (known(value) ? value / metric.scale : null);
const asFractions = (entry) => ({ ...entry, predicted: fraction(entry.predicted), found: fraction(entry.found), ci95: (entry.ci95 ?? []).map(fraction) });

function drawPredictions(box) {
  const entries = payload.predictions.map(asFractions);
  const made = entries.filter((entry) => known(entry.predicted));
  const chart = html("div");
  const legend = html("div", { class: "legend" }, [["diamond", "predicted", "predicted"], ["circle", "found", "found, with its interval"]].map(([shape, key, text]) => html("span", {},
    svg("svg", { width: 16, height: 16, "aria-hidden": "true" }, mark(shape, key, 8, 8, 5)), text)));
  const hits = made.filter(inside).length;
  const finding = made.length && !payload.changed ? shows(`${hits} of ${plural(made.length, "prediction")} ${hits === 1 ? "lies" : "lie"} inside the interval that was found.`) : null;
  const otherRun = payload.changed ? html("p", { class: "note" }, `They were not made for this run, which changes ${payload.changed.join(", ")}.`) : "";
  const figure = html("div", {}, html("div", { class: "controls-row" }, legend), chart);
  box.append(finding ?? "", otherRun, figure, saving(svgButton("predictions", figure)), predictionNumbers(entries));
  responsive(chart, (width) => rowChart(width, predictionSpec(entries)));
}

const outcome = (entry) => (!known(entry.predicted) ? "nothing predicted" : inside(entry) ? "inside the interval" : "outside the interval");

function predictionSpec(entries) {
  return {
    label: "Predicted and found effects, per arm", axis: `${effectAxis} against ${baselineTitle} on ${primaryTitle}`,
    domain: extent(entries.flatMap((entry) => [entry.predicted, entry.found, ...(entry.ci95 ?? [])]), [0]), tick: effectTick, lane: 32, band: null, sideName: "predicted → found",
    lines: [{ at: 0, text: "no effect", key: "zero" }],
    rows: entries.map((entry) => ({
      title: armTitle(entry.arm), side: [`${effect(entry.predicted)} → ${effect(entry.found)}`, outcome(entry)],
      tip: `${armTitle(entry.arm)}: predicted ${effect(entry.predicted)}, found ${effect(entry.found)} ${effectRange(entry.ci95)}, ${outcome(entry)}`,
      draw: (group, x) => {
        if (knownPair(entry.ci95)) group.append(whisker("found", x(entry.ci95[0]), x(entry.ci95[1]), 16));
        if (known(entry.found)) group.append(mark("circle", "found", x(entry.found), 16, 5));
        if (known(entry.predicted)) group.append(mark("diamond", "predicted", x(entry.predicted), 16, 6));
      },
    })),
  };
}

function predictionNumbers(entries) {
  const rows = entries.map((entry) => [armTitle(entry.arm), effect(entry.predicted), effect(entry.found), effectRange(entry.ci95), outcome(entry), entry.verdict ?? DASH]);
  return numbersTable(`Predictions in numbers (${metric.unit})`, ["arm", "predicted", "found", "95% interval", "the prediction lies", "verdict"], rows);
}
