// Draws every section. What was not recorded is left out, and a section that fails does not take the others with it.

const anyIn = (table) => Boolean(table) && Object.keys(table).length > 0;
const SECTIONS = [
  ["table", drawTable, anyIn(payload.table)],
  ["forest", drawForest, contrasts.size > 0],
  ["curves", drawCurves, anyIn(payload.curves)],
  ["pathways", drawPathways, anyIn(payload.pathways)],
  ["mass", drawMass, anyIn(payload.attention_mass)],
  ["matrices", drawMatrices, Boolean(payload.matrices)],
  ["edges", drawEdges, Boolean(payload.matrices && payload.edges)],
  ["counterfactual", drawCounterfactual, (payload.counterfactual?.connections ?? []).length > 0],
  ["flipped", drawFlipped, challengers.some((arm) => payload.flipped?.[arm.name]?.length > 0)],
  ["predictions", drawPredictions, (payload.predictions ?? []).length > 0],
  ["controls", drawControls, (payload.controls ?? []).length > 0],
  ["scope-line", drawScope, Boolean(payload.scope)],
  ["time", drawTime, anyIn(payload.timing)],
  ["again", drawAgain, Boolean(payload.command)],
];

for (const [name, draw, recorded] of SECTIONS) {
  const box = mounted(name);
  if (!recorded) {
    if (name === "edges") { box.previousElementSibling.remove(); document.getElementById("edges").remove(); } else box.closest("section").hidden = true;
    continue;
  }
  try {
    draw(box);
  } catch (error) {
    console.error(`section ${name}:`, error);
    box.replaceChildren(html("p", { class: "note" }, "This figure could not be drawn; the numbers are in results.json."));
  }
}
announce();
drawOpening();
drawFooter();
