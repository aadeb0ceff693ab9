// A chart with one row per arm and one shared horizontal axis: effects, pathways, attention mass, predictions.
//
// spec: { label, axis, domain, tick(value, all ticks), lane (height of the marks), lines: [{ at, text, key }], band: [from, to] | null,
//         rows: [{ title, tag, side, sideKey, tip, draw(group, x, lane) }] }
// whole: the chart is one image and its rows cannot be focused.
// sideName, if any, is the heading of the side texts. Wide: title left, side text right. Narrow: both above the marks.

const LABEL_WIDTH = 236;
const SIDE_WIDTH = 226;
const HEAD_HEIGHT = 30;
const FOOT_HEIGHT = 46;

function wrapped(text, limit) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (longer.length > limit && lines.at(-1)) lines.push(word); else lines[lines.length - 1] = longer;
  }
  return lines;
}

function chartFrame(width, spec) {
  const wide = width >= 720;
  const left = wide ? LABEL_WIDTH : 6;
  const right = width - (wide && spec.rows.some((row) => row.side) ? SIDE_WIDTH : 14);
  const rowHeight = spec.lane + (wide ? 12 : 52);
  const bottom = HEAD_HEIGHT + rowHeight * spec.rows.length;
  return { width, wide, left, right, rowHeight, bottom, height: bottom + FOOT_HEIGHT, x: linear(spec.domain, [left, right]) };
}

function chartAxis(frame, spec) {
  const { x, bottom, left, right } = frame;
  const values = ticks(...spec.domain, Math.max(3, Math.round((right - left) / 58)));
  const marks = values.map((value) => svg("g", {},
    svg("line", { class: "grid", x1: x(value), x2: x(value), y1: HEAD_HEIGHT, y2: bottom }),
    svg("text", { class: "tick", x: x(value), y: bottom + 17, "text-anchor": "middle" }, spec.tick(value, values))));
  const name = svg("text", { class: "axis-name", x: (left + right) / 2, y: bottom + 37, "text-anchor": "middle" }, spec.axis);
  return svg("g", { "aria-hidden": "true" }, marks, name);
}

function chartGuides(frame, spec) {
  const { x, bottom } = frame;
  const band = spec.band && svg("rect", { class: "band", x: x(spec.band[0]), width: x(spec.band[1]) - x(spec.band[0]), y: HEAD_HEIGHT, height: bottom - HEAD_HEIGHT });
  const lines = (spec.lines ?? []).map(({ at, text, key, anchor = "middle", shift = 0 }) => svg("g", {},
    svg("line", { class: `guide ${key}`, x1: x(at), x2: x(at), y1: HEAD_HEIGHT - 6, y2: bottom }),
    svg("text", { class: "guide-name", x: x(at) + shift, y: HEAD_HEIGHT - 12, "text-anchor": anchor }, text)));
  const sideName = frame.wide && spec.sideName && svg("text", { class: "guide-name", x: frame.right + 20, y: HEAD_HEIGHT - 12 }, spec.sideName);
  return [band, svg("g", { "aria-hidden": "true" }, lines, sideName)];
}

function rowLabels(frame, row, lane) {
  if (!frame.wide) {
    const tag = row.tag && svg("tspan", { class: "row-tag", dx: 8 }, row.tag);
    return [svg("rect", { class: "row-shade", width: frame.width, height: 41 }), svg("text", { class: "row-title", x: 6, y: 18 }, row.title, tag),
      svg("text", { class: `row-side ${row.sideKey ?? ""}`, x: 6, y: 35 }, row.side ?? "")];
  }
  const lines = wrapped(row.title, 28).map((text) => ({ text, name: "row-title" }));
  if (row.tag) lines.push({ text: row.tag, name: "row-tag" });
  const first = lane / 2 + 10 - (lines.length - 1) * 8;
  const title = lines.map(({ text, name }, index) => svg("text", { class: name, x: 0, y: first + index * 16 }, text));
  const side = [row.side ?? ""].flat().map((line, index, all) => svg("text",
    { class: index ? "row-side faint" : `row-side ${row.sideKey ?? ""}`, x: frame.right + 20, y: lane / 2 + 10 - (all.length - 1) * 8 + index * 16 }, line));
  return [title, side];
}

function rowChart(width, spec) {
  const frame = chartFrame(width, spec);
  const rows = spec.rows.map((row, index) => {
    const top = HEAD_HEIGHT + index * frame.rowHeight;
    const marks = svg("g", { transform: `translate(0,${frame.wide ? 6 : 44})` });
    row.draw(marks, frame.x, spec.lane);
    const label = frame.wide ? row : { ...row, side: [spec.sideName, [row.side ?? ""].flat().filter(Boolean).join(" · ")].filter(Boolean).join(": ") };
    const focusable = { class: `row ${row.key ?? ""}`, transform: `translate(0,${top})`, "data-tip": row.tip, ...(spec.whole ? {} : { tabindex: "0", role: "img", "aria-label": row.tip }) };
    const floor = svg("rect", { class: "row-floor", x: 0, y: 0, width, height: frame.rowHeight });
    return svg("g", focusable, floor, rowLabels(frame, label, spec.lane), marks);
  });
  const rules = spec.rows.map((row, index) => row.ruleAbove && index > 0
    && svg("line", { class: "rule", x1: 0, x2: width, y1: HEAD_HEIGHT + index * frame.rowHeight, y2: HEAD_HEIGHT + index * frame.rowHeight }));
  return svg("svg", { class: "chart", viewBox: `0 0 ${width} ${frame.height}`, width, height: frame.height, role: spec.whole ? "img" : "group", "aria-label": spec.label },
    chartGuides(frame, spec), chartAxis(frame, spec), rules, rows);
}

// Marks. Shapes differ as well as colours.
const SHAPES = {
  circle: (x, y, r) => svg("circle", { cx: x, cy: y, r }),
  diamond: (x, y, r) => svg("path", { d: `M${x} ${y - r * 1.25}L${x + r * 1.25} ${y}L${x} ${y + r * 1.25}L${x - r * 1.25} ${y}Z` }),
  triangle: (x, y, r) => svg("path", { d: `M${x} ${y - r * 1.15}L${x + r * 1.15} ${y + r * 0.9}L${x - r * 1.15} ${y + r * 0.9}Z` }),
  square: (x, y, r) => svg("rect", { x: x - r * 0.9, y: y - r * 0.9, width: r * 1.8, height: r * 1.8 }),
  cross: (x, y, r) => svg("path", { class: "open", d: `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}` }),
};

function mark(shape, key, x, y, radius, attributes = {}) {
  return svg("g", { class: `mark ${key}`, ...attributes }, SHAPES[shape](x, y, radius));
}

const whisker = (key, from, to, y) => svg("line", { class: `whisker ${key}`, x1: from, x2: to, y1: y, y2: y });

// Dots on a line, moved up and down where they would hide one another.
function swarm(values, x, y, radius, room) {
  const placed = [];
  const lanes = [0, 1, -1, 2, -2, 3, -3].map((lane) => (lane * room) / 3);
  const order = values.map((value, index) => ({ value, index })).filter(({ value }) => known(value)).sort((a, b) => a.value - b.value || a.index - b.index);
  for (const { value, index } of order) {
    const at = x(value);
    const free = lanes.find((lane) => placed.every((dot) => Math.hypot(dot.x - at, dot.y - lane) >= radius * 1.9));
    placed.push({ x: at, y: free ?? lanes[placed.length % lanes.length], index, value });
  }
  return placed.map((dot) => ({ ...dot, y: y + dot.y }));
}

// One effect in a row of a chart: a dot for each of `dots` ({ value, tip }) below, the interval and the diamond above.
function effectMarks(group, x, key, entry, dots) {
  const placed = swarm(dots.map(({ value }) => value), x, 32, 3.4, 8);
  group.append(...placed.map((dot) => svg("circle", { class: `seed ${key}`, cx: dot.x, cy: dot.y, r: 3.4, "data-tip": dots[dot.index].tip })));
  meanMarks(group, x, key, entry, 12);
}

function meanMarks(group, x, key, entry, y) {
  if (knownPair(entry.ci95)) group.append(whisker(key, x(entry.ci95[0]), x(entry.ci95[1]), y));
  if (known(entry.difference)) group.append(mark("diamond", key, x(entry.difference), y, 6));
}

// The opening's picture: of a chart of effects only the means and intervals, as one image with its words.
function overview(spec, entryOf, domain) {
  const rows = spec.rows.map((row, index) => ({ ...row, draw: (group, x) => meanMarks(group, x, row.key, entryOf(index), 13) }));
  return { ...spec, label: [spec.label, ...rows.map((row) => row.tip)].join(". "), domain, lane: 26, rows, whole: true };
}
