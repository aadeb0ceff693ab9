// One tooltip for the page: whatever carries data-tip shows it under the pointer and on keyboard focus.

const tooltip = html("div", { class: "tooltip", role: "tooltip", id: "tooltip", hidden: true });
document.body.append(tooltip);

function showTooltip(target) {
  tooltip.textContent = target.dataset.tip;
  tooltip.hidden = false;
  const anchor = target.getBoundingClientRect();
  const box = tooltip.getBoundingClientRect();
  const left = Math.min(Math.max(8, anchor.left + anchor.width / 2 - box.width / 2), document.documentElement.clientWidth - box.width - 8);
  const above = anchor.top - box.height - 8;
  tooltip.style.left = `${left}px`;
  tooltip.style.top = `${above < 8 ? anchor.bottom + 8 : above}px`;
}

const hideTooltip = () => { tooltip.hidden = true; };

for (const [appears, leaves] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
  document.addEventListener(appears, (event) => {
    const target = event.target.closest?.("[data-tip]");
    if (target) showTooltip(target); else hideTooltip();
  });
  document.addEventListener(leaves, hideTooltip);
}
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTooltip(); });
document.addEventListener("scroll", hideTooltip, { passive: true, capture: true });
