// Learning curves: one small panel per arm, all on the same axes, with the baseline's held-out curve as a faint reference.

const LOSS = "loss/";
const EXTRA_NAMES = { train_mode: "train, with dropout on" };
const plainKey = (key) => (key.startsWith(LOSS) ? key.slice(LOSS.length) : key);
const curveName = (key) => EXTRA_NAMES[plainKey(key)] ?? viewTitle(plainKey(key));
const ghostKey = (keys) => keys.find((key) => key === payload.primary || key === LOSS + payload.primary);

function drawCurves(box) {
  const recorded = arms.filter((arm) => payload.curves?.[arm.name]);
  const all = [...new Set(recorded.flatMap((arm) => Object.keys(payload.curves[arm.name])))];
  const kinds = { accuracy: all.filter((key) => !key.startsWith(LOSS)), loss: all.filter((key) => key.startsWith(LOSS)) };
  let kind = isAccuracy ? "accuracy" : "loss";
  const grid = html("div", { class: "panels" });
  const legend = html("div", { class: "legend" });
  const redraw = responsive(grid, (width) => curvePanels(width, recorded, kinds[kind], kind));
  const show = (chosen) => {
    kind = chosen;
    legend.replaceChildren(...curveLegend(kinds[kind]));
    redraw();
  };
  const pick = kinds.loss.length > 0 && choice("Show", "curve-kind", [["accuracy", "accuracy"], ["loss", "loss"]], kind, show);
  const figure = html("div", {}, html("div", { class: "controls-row" }, legend), grid);
  box.append(curveFinding(recorded) ?? "", pick ? html("div", { class: "controls-row" }, pick) : "", figure, saving(svgButton("learning curves", figure)), curveNumbers(recorded, kinds[kind]));
  show(kind);
}

function curveLegend(keys) {
  const sample = (name) => svg("svg", { width: 34, height: 10, "aria-hidden": "true" }, svg("line", { class: `curve ${name}`, x1: 1, x2: 33, y1: 5, y2: 5 }));
  const items = keys.map((key, index) => html("span", {}, sample(`series-${index}`), curveName(key)));
  if (ghostKey(keys)) items.push(html("span", {}, sample("ghost"), `${curveName(ghostKey(keys))}, ${baselineTitle}`));
  return items;
}

function curveScale(recorded, keys, kind) {
  const series = recorded.flatMap((arm) => keys.map((key) => payload.curves[arm.name][key]).filter(Boolean));
  const last = Math.max(1, ...series.flatMap((curve) => curve.steps));
  const values = series.flatMap((curve) => [...curve.mean, ...(curve.lo ?? []), ...(curve.hi ?? [])]).filter(known);
  if (kind === "loss") return { steps: [0, last], values: [0, Math.max(0.1, ...values) * 1.03], tick: (value) => String(value) };
  return { steps: [0, last], values: [Math.min(0.45, ...values), 1], tick: (value, all) => percent(value, tickDigits(all, 100)) };
}

function curvePanels(width, recorded, keys, kind) {
  const across = Math.max(width < 340 ? 1 : 2, Math.min(5, Math.floor(width / 205)));
  const scale = curveScale(recorded, keys, kind);
  const panels = recorded.map((arm) => curvePanel(arm, keys, kind, scale, Math.floor((width - (across - 1) * 18) / across)));
  const follow = (step) => panels.forEach((panel) => panel.follow(step));
  panels.forEach((panel) => panel.listen(follow));
  return panels.map((panel) => panel.node);
}

// The vertical place of a curve's points; unknown values leave a gap.
function curvePath(curve, values, x, y) {
  let pen = "M";
  return curve.steps.map((step, index) => {
    if (!known(values[index])) { pen = "M"; return ""; }
    const point = `${pen}${x(step).toFixed(1)} ${y(values[index]).toFixed(1)}`;
    pen = "L";
    return point;
  }).join("");
}

function curveBand(curve, x, y) {
  const inside = curve.steps.map((_, index) => index).filter((index) => known(curve.lo?.[index]) && known(curve.hi?.[index]));
  const upper = inside.map((index) => `${x(curve.steps[index]).toFixed(1)} ${y(curve.hi[index]).toFixed(1)}`);
  const lower = inside.map((index) => `${x(curve.steps[index]).toFixed(1)} ${y(curve.lo[index]).toFixed(1)}`).reverse();
  return inside.length > 1 ? `M${upper.join("L")}L${lower.join("L")}Z` : "";
}

function curvePicture(arm, keys, kind, scale, width) {
  const height = Math.round(Math.min(150, Math.max(112, width * 0.68)));
  const [left, right, top, bottom] = [34, width - 4, 6, height - 18];
  const x = linear(scale.steps, [left, right]);
  const y = linear(scale.values, [bottom, top]);
  const marks = ticks(...scale.values, 3);
  const axis = marks.map((value) => [svg("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
    svg("text", { class: "tick", x: left - 5, y: y(value) + 3.5, "text-anchor": "end" }, scale.tick(value, marks))]);
  const steps = [[0, "start", 0], [scale.steps[1], "end", 0]].map(([step, anchor]) => svg("text", { class: "tick", x: x(step), y: height - 4, "text-anchor": anchor },
    step === 0 ? "step 0" : String(step)));
  const curves = keys.map((key, index) => ({ curve: payload.curves[arm.name][key], index })).filter(({ curve }) => curve);
  const ghost = arm.name !== payload.baseline && payload.curves[payload.baseline]?.[ghostKey(keys)];
  const cursor = svg("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" });
  const picture = svg("svg", { class: "panel-picture", viewBox: `0 0 ${width} ${height}`, width, height, tabindex: "0", role: "img",
    "aria-label": curveSummary(arm, keys, kind) },
    axis, steps, curves.map(({ curve, index }) => svg("path", { class: `spread series-${index}`, d: curveBand(curve, x, y) })),
    ghost && svg("path", { class: "curve ghost", d: curvePath(ghost, ghost.mean, x, y) }),
    curves.map(({ curve, index }) => svg("path", { class: `curve series-${index}`, d: curvePath(curve, curve.mean, x, y) })), cursor);
  return { picture, cursor, x, left, right };
}

function curvePanel(arm, keys, kind, scale, width) {
  const { picture, cursor, x, left, right } = curvePicture(arm, keys, kind, scale, width);
  const readout = html("p", { class: "readout" });
  const node = html("figure", { class: "panel", style: `width:${width}px` }, html("figcaption", {}, arm.title ?? arm.name), readout, picture);
  const first = keys.map((key) => payload.curves[arm.name][key]).find(Boolean);
  const steps = first?.steps ?? [];
  const nearest = (step) => steps.reduce((near, other, index) => (Math.abs(other - step) < Math.abs(steps[near] - step) ? index : near), 0);
  const follow = (step) => {
    const index = step === null ? steps.length - 1 : nearest(step);
    const values = keys.map((key) => payload.curves[arm.name][key]?.mean[index]).map((value) => (kind === "loss" ? weight(value) : percent(value, 0)));
    readout.replaceChildren(...values.map((value, series) => html("span", { class: `ink-series-${series}` }, value)),
      html("span", { class: "when" }, step === null ? "end" : `step ${steps[index] ?? DASH}`));
    cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
    if (step !== null) for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(steps[index]));
  };
  const listen = (send) => listenForStep(picture, { left, right, width, last: scale.steps[1], steps, nearest }, send);
  follow(null);
  return { node, follow, listen };
}

function listenForStep(picture, { left, right, width, last, steps, nearest }, send) {
  let at = null;
  const go = (step) => { at = step; send(step); };
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const inside = ((event.clientX - box.left) * width) / box.width;
    go(Math.min(last, Math.max(0, ((inside - left) / (right - left)) * last)));
  });
  picture.addEventListener("pointerleave", () => go(null));
  picture.addEventListener("blur", () => go(null));
  picture.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move || !steps.length) return;
    event.preventDefault();
    const index = at === null ? (move > 0 ? 0 : steps.length - 1) : Math.min(steps.length - 1, Math.max(0, nearest(at) + move));
    go(steps[index]);
  });
}

const lastValue = (arm, key) => payload.curves?.[arm.name]?.[key]?.mean.at(-1);

function curveSummary(arm, keys, kind) {
  const ends = keys.map((key) => `${curveName(key)} ${kind === "loss" ? weight(lastValue(arm, key)) : percent(lastValue(arm, key), 0)}`);
  return `${arm.title}, ${kind} at the end: ${ends.join(", ")}`;
}

function curveFinding(recorded) {
  if (!isAccuracy) return lossFinding(recorded);
  const gap = (arm) => lastValue(arm, "train") - lastValue(arm, payload.primary);
  const baseline = recorded.find((arm) => arm.name === payload.baseline);
  const least = best(recorded.filter((arm) => arm.kind === "arm"), (arm) => -gap(arm));
  if (!baseline || !known(gap(baseline)) || !least) return null;
  const opening = `${quoted(baseline)} ends at ${percent(lastValue(baseline, "train"), 0)} on the examples it trained on and at ${percent(lastValue(baseline, payload.primary), 0)} on `
    + `${primaryTitle}: a gap of ${fixed(100 * gap(baseline), 0)} points.`;
  return shows(least === baseline ? opening : `${opening} The smallest gap is ${fixed(100 * gap(least), 0)} points, with ${quoted(least)}.`);
}

function lossFinding(recorded) {
  const baseline = recorded.find((arm) => arm.name === payload.baseline);
  const [train, held] = ["train", payload.primary].map((view) => baseline && lastValue(baseline, LOSS + view));
  if (!known(train) || !known(held)) return null;
  return shows(`${quoted(baseline)} ends at ${weight(train)} nats on what it trained on and at ${weight(held)} on ${primaryTitle}: a gap of ${weight(held - train)} nats.`);
}

function curveNumbers(recorded, keys) {
  const rows = recorded.map((arm) => [arm.title, ...keys.map((key) => (key.startsWith(LOSS) ? weight : percent)(lastValue(arm, key)))]);
  return numbersTable("Where the curves end, in numbers", ["arm", ...keys.map(curveName)], rows, curveRaw(recorded));
}

// Every point of every curve, whichever kind is shown.
function curveRaw(recorded) {
  const rows = recorded.flatMap((arm) => Object.entries(payload.curves[arm.name]).flatMap(([key, curve]) => curve.steps.map((step, index) => [
    arm.name, key.startsWith(LOSS) ? "loss" : "accuracy", plainKey(key), step, curve.mean[index], curve.lo?.[index], curve.hi?.[index]])));
  return { columns: ["arm", "what", "view", "step", "mean", "from", "to"], rows };
}
