// Every page: actions, and ages that keep counting while the page is open.

import { wireActions, wireSignOut } from "./actions.js";
import { ageText } from "./format.js";
import { wireSwaps } from "./swaps.js";

function refreshAges() {
  for (const time of document.querySelectorAll("time[data-age]")) time.textContent = ageText(Date.parse(time.dateTime));
}

/** Clicking anywhere on a row with `data-href` follows its link; a drag that selects text does not. */
function wireRows() {
  document.body.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-href]");
    if (!row || event.target.closest("a, button, input") || String(getSelection())) return;
    location.href = row.dataset.href;
  });
}

wireActions();
wireSignOut();
wireRows();
wireSwaps();
setInterval(refreshAges, 10_000);
document.body.addEventListener("htmx:afterSettle", refreshAges);
