// Saving what is seen: figures as SVG, numbers as CSV. The page makes the files by itself and asks nobody.

const slug = (text, most) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, most).replace(/^-|-$/g, "");
const fileName = (what, ending) => `${slug(document.title, 32)}-${slug(what, 72)}.${ending}`;

function saveFile(name, type, text) {
  const link = html("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const saveButton = (words, what, save) => html("button", { type: "button", class: "save", "aria-label": `${words}: ${what}`, onclick: save }, words);

// A cell as a CSV file holds it: a plain minus, nothing where nothing is known, quotes where they are needed.
function csvCell(value) {
  const text = value === null || value === undefined || value === DASH ? "" : String(value).replaceAll("−", "-");
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const csv = (columns, rows) => [columns, ...rows].map((row) => row.map(csvCell).join(",")).join("\n") + "\n";

// rows may be a function, for numbers that a choice on the page changes.
function csvButton(what, columns, rows) {
  const save = () => saveFile(fileName(what, "csv"), "text/csv", csv(columns, typeof rows === "function" ? rows() : rows));
  return saveButton("save as CSV", what, save);
}

const INHERITED = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "font-family", "font-size", "font-weight", "text-decoration"];
const PAGE_ONLY = ["class", "style", "tabindex", "role", "data-tip", "data-arc", "aria-label", "aria-hidden"];

// A drawing that looks the same without the page's styles.
function standalone(picture, place) {
  const copy = picture.cloneNode(true);
  const nodes = [picture, ...picture.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((node, index) => {
    const [look, above] = [getComputedStyle(nodes[index]), getComputedStyle(nodes[index].parentNode)];
    for (const name of PAGE_ONLY) node.removeAttribute(name);
    for (const name of INHERITED) if (index === 0 || look.getPropertyValue(name) !== above.getPropertyValue(name)) node.setAttribute(name, look.getPropertyValue(name));
    if (look.opacity !== "1") node.setAttribute("opacity", look.opacity);
  });
  return furnish(copy, place, []);
}

// The words that stand around the drawings of a figure, each where it stands.
function wordsAround(box, origin) {
  const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT, (node) => (node.parentNode.closest("svg") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT));
  const found = [];
  while (walker.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const [at, look] = [range.getBoundingClientRect(), getComputedStyle(walker.currentNode.parentNode)];
    if (!at.width || !walker.currentNode.data.trim()) continue;
    const font = { "font-family": look.fontFamily, "font-size": look.fontSize, "font-weight": look.fontWeight, fill: look.color };
    found.push(svg("text", { x: at.left - origin.left, y: at.bottom - origin.top - at.height * 0.25, ...font }, walker.currentNode.data.trim()));
  }
  return found;
}

function figureText(box) {
  const origin = box.getBoundingClientRect();
  const size = { width: Math.ceil(origin.width), height: Math.ceil(origin.height) };
  const drawings = [...box.querySelectorAll("svg")].map((picture) => {
    const at = picture.getBoundingClientRect();
    return standalone(picture, { x: at.left - origin.left, y: at.top - origin.top, width: at.width, height: at.height });
  });
  const paper = svg("rect", { ...size, fill: getComputedStyle(document.body).backgroundColor });
  return new XMLSerializer().serializeToString(svg("svg", { ...size, viewBox: `0 0 ${size.width} ${size.height}` }, paper, drawings, wordsAround(box, origin)));
}

// text makes the drawing when it is saved.
const drawingButton = (what, text) => saveButton("save as SVG", what, () => saveFile(fileName(what, "svg"), "image/svg+xml", text()));
const svgButton = (what, box) => drawingButton(what, () => figureText(box));

// What stands below a figure or a table, to save it.
const saving = (...buttons) => html("p", { class: "saving" }, buttons);
