// Building elements. Text always goes in as text nodes: nothing in the results can become markup.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

function furnish(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  const present = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  node.append(...present);
  return node;
}

const html = (tag, attributes = {}, ...children) => furnish(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => furnish(document.createElementNS(SVG_NAMESPACE, tag), attributes, children);
const mounted = (name) => document.querySelector(`[data-mount="${name}"]`);

// A box that scrolls sideways by itself, reachable with the keyboard, so that the page never has to.
const scrolling = (label, ...children) => html("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, ...children);

// Calls draw(width) now and whenever the width of the box changes, and puts in what it returns.
function responsive(box, draw) {
  let drawn = 0;
  const redraw = () => {
    const width = Math.floor(box.clientWidth);
    if (width === drawn || width === 0) return;
    drawn = width;
    box.replaceChildren(...[draw(width)].flat());
  };
  new ResizeObserver(redraw).observe(box);
  redraw();
  return () => { drawn = 0; redraw(); };
}

// The numbers behind a figure, as a table: for screen readers, for paper, and for those who cannot hover.
// `raw` is what a CSV file of it holds, where that is more than what is shown.
function numbersTable(caption, columns, rows, raw = { columns, rows }) {
  const head = html("tr", {}, columns.map((column) => html("th", { scope: "col" }, column)));
  const body = rows.map((row) => html("tr", {}, row.map((cell, index) => (index === 0 ? html("th", { scope: "row" }, cell) : html("td", {}, cell)))));
  const table = html("table", { class: "numbers" }, html("thead", {}, head), html("tbody", {}, body));
  return html("details", { class: "numbers-box" }, html("summary", {}, caption), scrolling(caption, table), saving(csvButton(caption, raw.columns, raw.rows)));
}

// A labelled drop-down; options are [value, text] pairs.
function dropDown(label, options, value, change) {
  const select = html("select", { onchange: (event) => change(event.target.value) },
    options.map(([option, text]) => html("option", { value: option, selected: option === value }, text)));
  return html("label", { class: "drop-down" }, html("span", {}, label), select);
}

// A few exclusive choices next to one another; native radio buttons, so the arrow keys work.
function choice(label, name, options, value, change) {
  const buttons = options.map(([option, text]) => html("label", {},
    html("input", { type: "radio", name, value: option, checked: option === value, onchange: () => change(option) }), html("span", {}, text)));
  return html("fieldset", { class: "choice" }, html("legend", {}, label), html("div", {}, buttons));
}

const shows = (...text) => html("p", { class: "shows" }, ...text);
