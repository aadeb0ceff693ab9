// The top of the page: warnings before anything else, then what came out.

function drawOpening() {
  const counts = Object.values(payload.runs);
  const [fewest, most] = [Math.min(...counts), Math.max(...counts)];
  mounted("eyebrow").append(`${plural(challengers.length, "arm")} against ${baselineTitle} · ${fewest === most ? plural(most, "run") : `${fewest} to ${most} runs`} each`);
  mounted("title").append(payload.title);
  mounted("warnings").append(...payload.warnings.map((line) => html("li", {}, html("b", {}, "Read this first. "), line)));
  mounted("headline").append(...payload.headline.map((line) => html("li", {}, line)));
  drawPicture(mounted("picture"));
  mounted("contents").append(...[...document.querySelectorAll("main > section")].filter((part) => !part.hidden)
    .map((part) => html("a", { href: `#${part.id}` }, part.querySelector("h2").textContent)));
}
