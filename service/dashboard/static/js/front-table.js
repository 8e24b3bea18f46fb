// The table of front members: sorting, and one row hot or selected together with its point in the chart.
//
// The server renders the rows and swaps them in as the front changes; sorting and selection are put back after a swap.

/** Wires the table inside `container`, which stays when its content is swapped; calls back with a trial's number (or null when the pointer leaves). */
export function wireFrontTable(container, { onHover, onPick }) {
  let sort = { column: null, ascending: true };
  let picked = null;
  let hot = null;

  const body = () => container.querySelector("tbody");
  const rows = () => [...container.querySelectorAll("tr[data-number]")];

  function applySort() {
    for (const head of container.querySelectorAll("th[aria-sort]")) {
      const on = head.dataset.column === sort.column;
      head.setAttribute("aria-sort", on ? (sort.ascending ? "ascending" : "descending") : "none");
    }
    if (sort.column === null || !body()) return;
    const index = [...container.querySelectorAll("thead th")].findIndex((head) => head.dataset.column === sort.column);
    const value = (row) => Number(row.cells[index].dataset.sort);
    // NaN (no value) always goes last, whichever way the column is sorted.
    const order = (a, b) => (Number.isNaN(a) ? 1 : Number.isNaN(b) ? -1 : sort.ascending ? a - b : b - a);
    body().append(...rows().sort((a, b) => order(value(a), value(b))));
  }

  function applyPick() {
    for (const row of rows()) {
      const on = Number(row.dataset.number) === picked;
      row.classList.toggle("picked", on);
      row.querySelector("button[aria-pressed]")?.setAttribute("aria-pressed", String(on));
    }
  }

  function applyHeat() {
    for (const row of rows()) row.classList.toggle("hot", Number(row.dataset.number) === hot);
  }

  container.addEventListener("click", (event) => {
    const head = event.target.closest("th[aria-sort]");
    if (head) {
      const best = head.dataset.first !== "descending";
      sort = { column: head.dataset.column, ascending: sort.column === head.dataset.column ? !sort.ascending : best };
      applySort();
      return;
    }
    const row = event.target.closest("tr[data-number]");
    if (row && !event.target.closest("a")) onPick(Number(row.dataset.number));
  });
  container.addEventListener("pointerover", (event) => {
    const row = event.target.closest("tr[data-number]");
    if (row) onHover(Number(row.dataset.number));
  });
  container.addEventListener("pointerleave", () => onHover(null));

  return {
    /** Puts sort order and selection back after the rows were replaced. */
    restore() { applySort(); applyPick(); applyHeat(); },
    /** Marks the row under the chart's pointer, and no other. */
    heat(number) { hot = number; applyHeat(); },
    /** Selects a row; `reveal` scrolls it into the table's view. */
    pick(number, reveal) {
      picked = number;
      applyPick();
      const row = rows().find((one) => Number(one.dataset.number) === number);
      if (row && reveal) row.scrollIntoView({ block: "nearest" });
    },
  };
}
