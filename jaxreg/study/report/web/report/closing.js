// The end of the page: controls, scope, time, and how to run it again.

const CONTROL_STATES = { true: ["✓", "passed"], false: ["✗", "failed"], null: ["–", "not decided"] };

function drawControls(box) {
  box.append(html("ul", { class: "control-list" }, payload.controls.map((control) => {
    const [symbol, words] = CONTROL_STATES[String(control.passed ?? null)];
    return html("li", { class: words.replace(" ", "-") }, html("span", { class: "state" }, html("span", { "aria-hidden": "true" }, symbol), ` ${words}`),
      html("div", {}, html("b", {}, control.what ?? control.name), html("p", { class: "small" }, control.detail ?? "")));
  })));
}

function drawScope(box) {
  box.append(payload.scope ?? DASH);
  if (payload.note) box.append(html("p", { class: "note" }, payload.note));
}

function drawTime(box) {
  const phases = Object.entries(payload.timing).filter(([, value]) => known(value));
  const total = phases.reduce((sum, [, value]) => sum + value, 0);
  const longest = Math.max(...phases.map(([, value]) => value));
  box.append(html("table", { class: "time" }, html("tbody", {}, phases.map(([phase, value]) => html("tr", {}, html("th", { scope: "row" }, phase),
    html("td", { class: "time-bar" }, html("div", { style: `width:${((100 * value) / longest).toFixed(1)}%` })), html("td", {}, seconds(value)))),
  sumRow("together", total), payload.earlier > 0 && sumRow("with the earlier parts of this run", total + payload.earlier))));
  if (payload.machine) box.append(html("p", { class: "small", id: "machine" }, `Speed, memory and goodput: ${payload.machine}.`));
}

const sumRow = (words, value) => html("tr", { class: "sum" }, html("th", { scope: "row" }, words), html("td"), html("td", {}, seconds(value)));

function drawAgain(box) {
  const code = html("code", {}, payload.command ?? "");
  const done = html("span", { role: "status", class: "small" });
  const copy = async () => {
    getSelection().selectAllChildren(code);
    try { await navigator.clipboard.writeText(code.textContent); done.textContent = "copied"; } catch { done.textContent = "selected: press Ctrl+C"; }
  };
  const environment = Object.entries(payload.environment ?? {});
  box.append(html("div", { class: "command" }, html("pre", {}, code), html("button", { type: "button", onclick: copy }, "copy"), done));
  if (environment.length) box.append(html("details", { class: "numbers-box" }, html("summary", {}, "The machine and versions of this run"),
    html("dl", { class: "environment" }, environment.map(([name, value]) => [html("dt", {}, name), html("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value))]))));
}

function drawFooter() {
  mounted("footer").append(`Made by jaxreg from ${payload.generated_from ?? "results.json"}. This page is one file and loads nothing from the network.`);
}
