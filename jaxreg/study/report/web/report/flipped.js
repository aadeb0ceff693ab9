// Sentences on which an arm and the baseline disagree, in both directions.

const FIRST_SHOWN = 8;

function drawFlipped(box) {
  const listedArms = challengers.filter((arm) => payload.flipped?.[arm.name]?.length);
  const lists = html("div", { class: "flips" });
  const note = html("p", { class: "shows", "aria-live": "polite" });
  const show = (name) => {
    const entries = payload.flipped[name];
    const repaired = entries.filter((entry) => entry.arm_says === entry.answer);
    const broken = entries.filter((entry) => entry.arm_says !== entry.answer);
    note.textContent = `Of the disagreements kept for ${quoted(armByName.get(name))}, ${repaired.length} were repaired and ${broken.length} broken.`;
    lists.replaceChildren(flipList("✓ repaired", "repaired", repaired), flipList("✗ broken", "broken", broken));
  };
  const start = (best(listedArms.filter((arm) => arm.kind === "arm"), (arm) => contrast(arm.name, payload.primary)?.difference) ?? listedArms[0]).name;
  box.append(html("div", { class: "controls-row" }, dropDown("Arm", listedArms.map((arm) => [arm.name, arm.title ?? arm.name]), start, show)), note, lists);
  show(start);
}

function flipList(title, key, entries) {
  const list = html("ul", {}, entries.slice(0, FIRST_SHOWN).map(flipItem));
  const rest = entries.length - FIRST_SHOWN;
  const more = rest > 0 && html("button", { type: "button", class: "more", onclick: () => { list.append(...entries.slice(FIRST_SHOWN).map(flipItem)); more.remove(); } }, `show ${rest} more`);
  return html("div", { class: `flip ${key}` }, html("h3", {}, title, html("span", { class: "faint" }, ` ${entries.length}`)), entries.length ? list : html("p", { class: "small" }, "none"), more || null);
}

function flipItem(entry) {
  const said = (who, form) => html("span", { class: form === entry.answer ? "right" : "wrong" }, `${who} “${form}” ${form === entry.answer ? "✓" : "✗"}`);
  return html("li", {}, sentence(entry.text), html("span", { class: "said" }, said("baseline", entry.baseline_says), said("arm", entry.arm_says),
    html("span", { class: "faint" }, `${viewTitle(entry.view)}, seed ${entry.seed}`)));
}
