// Draws the page, and opens the claim that the address names.

drawOpening();
drawTable(mounted("claims"));
const named = location.hash && document.getElementById(location.hash.slice(1));
if (named instanceof HTMLDetailsElement) named.open = true;
