// What was assumed, how the input was read, and what can be quoted.

function drawMethod(box) {
  box.append(...payload.method.flatMap(([what, how]) => [html("dt", {}, what), html("dd", {}, how)]));
}

const drawLines = (lines) => (box) => box.append(...lines.map((line) => html("li", {}, line)));

const scrolled = (label) => ({ tabindex: "0", role: "region", "aria-label": `${label}, to quote` });

function quotable(title, text, node) {
  const done = html("span", { role: "status", class: "small" });
  const copy = async () => {
    getSelection().selectAllChildren(node);
    try { await navigator.clipboard.writeText(text); done.textContent = " copied"; } catch { done.textContent = " selected: press Ctrl+C"; }
  };
  return html("div", { class: "quotable" }, html("h3", {}, title), node, html("button", { type: "button", onclick: copy }, "copy"), done);
}

function drawWords(box) {
  box.append(quotable("Paragraph", payload.paragraph, html("p", { class: "prose" }, payload.paragraph)), quotable("Markdown", payload.markdown, html("pre", scrolled("Markdown"), payload.markdown)));
  if (payload.command) box.append(quotable("Command", payload.command, html("pre", scrolled("Command"), payload.command)));
}
