// Live fragments that do not disturb a reader: an unchanged one is not swapped in, a changed one keeps its scroll position.
// Keyboard focus stays too: htmx puts it back on the element of the same id.

const last = new Map();
const scrolled = new Map();

/** Watches every swap of the page. */
export function wireSwaps() {
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const { target, serverResponse } = event.detail;
    if (last.get(target.id) === serverResponse) {
      event.detail.shouldSwap = false;
      return;
    }
    last.set(target.id, serverResponse);
    scrolled.set(target.id, [...target.querySelectorAll(".scroll-y")].map((box) => box.scrollTop));
  });
  document.body.addEventListener("htmx:afterSettle", (event) => {
    const offsets = scrolled.get(event.target.id) ?? [];
    const boxes = document.getElementById(event.target.id)?.querySelectorAll(".scroll-y") ?? [];
    boxes.forEach((box, index) => { box.scrollTop = offsets[index] ?? 0; });
  });
}
