// The top of the page: the question, what came out, what was predicted, what is asked.

const arrows = (text) => String(text).replaceAll("->", "→");

// A sentence with its verb stem, in capitals, set off.
function sentence(text) {
  return html("span", { class: "sentence" }, arrows(text).split(/\b([A-Z]{2,})\b/).map((part, index) => (index % 2 ? html("b", {}, part) : part)));
}

function drawOpening() {
  const tested = arms.filter((arm) => arm.kind === "arm").length;
  mounted("eyebrow").append(`${payload.title} · ${plural(tested, "arm")} · ${plural(seeds.length, "seed")}`);
  mounted("question").append(payload.question ?? payload.title);
  mounted("headline").append(...(payload.headline ?? []).map((line) => html("li", {}, line)));
  mounted("prediction").append(payload.prediction ?? "Nothing was predicted.");
  mounted("scope").append(payload.scope ?? "");
  drawPicture(mounted("picture"));
  mounted("details").append(...(payload.details ?? []).map((line) => html("li", {}, line)));
  drawExample();
  if (!isAccuracy) {
    mounted("level-words").textContent = `${metric.title} (nats, lower is better)`;
    mounted("effect-words").textContent = metric.unit;
    mounted("curve-words").textContent = "Loss";
  }
  mounted("contents").append(...[...document.querySelectorAll("main > section")].filter((part) => !part.hidden)
    .map((part) => html("a", { href: `#${part.id}` }, part.querySelector("h2").textContent)));
}

function drawExample() {
  const view = views.find(({ name }) => name === payload.primary);
  if (!view) return;
  mounted("example").append(html("dl", { class: "asked" },
    html("dt", {}, "trained on"), html("dd", {}, sentence(view.trained ?? DASH)),
    html("dt", {}, "asked"), html("dd", {}, sentence(view.asked ?? DASH))));
}
