// The two matrices as one drawing, to save. On the page they are tables, so that a screen reader can walk through them.

const DRAWN = { cell: 44, labels: 96, title: 34, between: 36 };

function matricesText() {
  const side = DRAWN.labels + DRAWN.cell * matrixData.words.length;
  const size = { width: 2 * side + DRAWN.between, height: DRAWN.title + side + 8 };
  const root = getComputedStyle(document.documentElement);
  const color = (name) => root.getPropertyValue(`--${name}`).trim();
  const parts = [false, true].map((dropping) => svg("g", { transform: `translate(${dropping ? side + DRAWN.between : 0} 0)` }, drawnMatrix(dropping, color)));
  const font = { "font-family": color("sans"), "font-size": "13px", fill: color("ink") };
  return new XMLSerializer().serializeToString(svg("svg", { ...size, viewBox: `0 0 ${size.width} ${size.height}`, ...font },
    svg("rect", { ...size, fill: color("paper") }), parts));
}

function drawnMatrix(dropping, color) {
  const { words, query, steps } = matrixData;
  const { cell, labels, title } = DRAWN;
  const when = dropping ? `after dropping, at step ${steps[shared.step]?.step ?? DASH}` : "before dropping";
  const emphasis = (row) => (row === query ? { fill: color("blue"), "font-weight": "700" } : {});
  const name = (word, place, row) => {
    const [x, y] = row ? [labels - 8, title + labels + cell * (place + 0.5) + 4] : [labels + cell * (place + 0.5) + 4, title + labels - 8];
    return svg("text", { x, y, ...(row ? { "text-anchor": "end", ...emphasis(place) } : { transform: `rotate(-90 ${x} ${y})` }) }, word);
  };
  return [
    svg("text", { x: 0, y: 18, "font-weight": "700" }, `${when} · layer ${shared.layer + 1}, head ${shared.head + 1}`),
    words.map((word, place) => [name(word, place, true), name(word, place, false)]),
    words.map((_, row) => words.map((__, column) => drawnCell(row, column, dropping, color))),
    svg("rect", { x: labels, y: title + labels + cell * query, width: cell * words.length, height: cell, fill: "none", stroke: color("ink"), "stroke-width": 2 }),
  ];
}

// A dropped connection has a dashed frame, and its weight is struck out.
function drawnCell(row, column, dropping, color) {
  const { cell, labels, title } = DRAWN;
  const [x, y] = [labels + cell * column, title + labels + cell * row];
  const gone = dropping && !keptAt(shared.layer, shared.head, row, column);
  const value = weightUsed(row, column, dropping && !gone); // a dropped one is shown struck out
  const look = gone ? { fill: "none", stroke: color("vermillion"), "stroke-dasharray": "4 3" } : { fill: color("weight"), "fill-opacity": known(value) ? (0.08 + 0.6 * Math.min(1, value)).toFixed(3) : 0 };
  return [svg("rect", { x: x + 1, y: y + 1, width: cell - 2, height: cell - 2, ...look }),
    svg("text", { x: x + cell / 2, y: y + cell / 2 + 4, "text-anchor": "middle", "text-decoration": gone ? "line-through" : null }, weight(value))];
}
