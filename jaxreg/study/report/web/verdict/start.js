// Draws every section; one that fails does not take the others with it.

const SECTIONS = [
  ["verdicts", drawVerdicts, challengers.length > 0],
  ["forest", drawForest, contrasts.size > 0],
  ["runs", drawRuns, true],
  ["method", drawMethod, true],
  ["input", drawLines(payload.understood), payload.understood.length > 0],
  ["words", drawWords, true],
  ["sources", drawLines(payload.sources.map(({ full }) => full)), true],
];

for (const [name, draw, there] of SECTIONS) {
  const box = mounted(name);
  if (!there) {
    box.closest("section").hidden = true;
    continue;
  }
  try {
    draw(box);
  } catch (error) {
    console.error(`section ${name}:`, error);
    box.replaceChildren(html("p", { class: "note" }, "This part could not be drawn; the command prints the same numbers with --json."));
  }
}
drawOpening();
mounted("footer").append("Made by jaxreg judge. This page is one file and loads nothing from the network.");
