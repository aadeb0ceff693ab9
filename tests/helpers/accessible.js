// The body of a function: [how many texts it saw, what is wrong with the page as it is shown now].
const found = [];
const shown = (node) => node.checkVisibility({ visibilityProperty: true }) && node.getClientRects().length > 0;
const all = (selector) => [...document.querySelectorAll(selector)].filter(shown);
const told = (node) => `${node.tagName.toLowerCase()} "${(node.textContent || node.outerHTML).trim().slice(0, 40)}"`;

// Landmarks, language, headings.
if (!document.documentElement.lang) found.push("no language");
for (const [selector, count] of [["main", 1], ["h1", 1], ["a.skip", 1]]) {
  if (document.querySelectorAll(selector).length !== count) found.push(`not ${count} of ${selector}`);
}
let level = 0;
for (const head of all("h1, h2, h3, h4")) {
  const own = Number(head.tagName[1]);
  if (own > level + 1) found.push(`${told(head)} comes after a heading of level ${level}`);
  level = own;
}
const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
for (const id of new Set(ids)) if (ids.filter((each) => each === id).length > 1) found.push(`id ${id} twice`);
for (const link of all("a[href^='#']")) if (!document.getElementById(link.hash.slice(1))) found.push(`${told(link)} leads nowhere`);

// Names.
const nameOf = (node) => node.getAttribute("aria-label") || node.alt || (node.labels && [...node.labels].map((each) => each.textContent).join("")) || node.textContent;
for (const node of all("button, a[href], select, input, img, [role=img], [role=region], [role=group], nav, summary")) {
  if (!nameOf(node).trim()) found.push(`${told(node)} has no name`);
}
const regions = all("[role=region]").map((node) => node.getAttribute("aria-label"));
for (const name of new Set(regions)) if (regions.filter((each) => each === name).length > 1) found.push(`two regions "${name}"`);
for (const node of all("svg")) if (!node.getAttribute("role") && !node.closest("[aria-hidden]")) found.push(`${told(node)} is neither named nor hidden`);
for (const cell of all("th")) if (!cell.getAttribute("scope")) found.push(`${told(cell)} has no scope`);

// The keyboard: what scrolls can be reached.
for (const node of all("*")) {
  const scrolls = node.scrollWidth > node.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(node).overflowX);
  if (scrolls && node.tabIndex < 0) found.push(`${told(node)} scrolls and cannot be focused`);
}

// Nothing sticks out of the page.
const wide = document.documentElement.scrollWidth - innerWidth;
if (wide > 0) found.push(`${wide} pixels wider than the screen`);

// Contrast of text by WCAG 2.1: 4.5, and 3 of large text.
const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (color) => {
  brush.clearRect(0, 0, 1, 1);
  brush.fillStyle = color;
  brush.fillRect(0, 0, 1, 1);
  return [...brush.getImageData(0, 0, 1, 1).data];
};
const over = (top, below) => [0, 1, 2].map((i) => (top[i] * top[3] + below[i] * (255 - top[3])) / 255);
const paper = rgba(getComputedStyle(document.body).backgroundColor);
const behind = (node) => {
  const layers = [];
  for (let at = node; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((below, layer) => over(layer, below), paper);
};
const light = (color) => {
  const [r, g, b] = color.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const texts = new Map();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (walker.currentNode.data.trim() && !node.closest("script, style, noscript, title") && shown(node)) texts.set(node, true);
}
for (const node of texts.keys()) {
  const look = getComputedStyle(node);
  const ink = rgba(node.closest("svg") ? look.fill : look.color);
  const ground = behind(node.closest("svg") ?? node);
  const [high, low] = [light(over(ink, ground)), light(ground)].sort((a, b) => b - a);
  const ratio = (high + 0.05) / (low + 0.05);
  const size = parseFloat(look.fontSize);
  const least = size >= 24 || (size >= 18.66 && Number(look.fontWeight) >= 700) ? 3 : 4.5;
  if (ratio < least) found.push(`${told(node)} has a contrast of ${ratio.toFixed(2)}`);
}
return [texts.size, [...new Set(found)]];
