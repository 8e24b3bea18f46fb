// Live updates: one EventSource per page, told to the rest of the page as DOM events.
//
// The browser resumes a broken stream by itself with Last-Event-ID, so nothing is lost. Events arrive in bursts (a search
// can finish hundreds of trials a second); listeners hear at most one "archsmith:update" per `INTERVAL_MS`. A hidden tab
// is not redrawn: what happened meanwhile is delivered as one update when it is shown again.

const INTERVAL_MS = 1000;

/** Follows the stream at `url`; `indicator` shows whether it is connected. `kinds` are the named events to hear. */
export function follow(url, kinds, indicator) {
  let pending = false;
  let timer = null;
  let last = 0;
  let source = null;

  function flush() {
    timer = null;
    if (!pending || document.hidden) return;
    pending = false;
    last = Date.now();
    document.body.dispatchEvent(new CustomEvent("archsmith:update"));
  }

  function schedule() {
    pending = true;
    if (timer === null && !document.hidden) timer = setTimeout(flush, Math.max(0, last + INTERVAL_MS - Date.now()));
  }

  function show(state, text) {
    indicator.dataset.state = state;
    indicator.textContent = text;
  }

  function open() {
    source = new EventSource(url);
    source.onopen = () => show("open", "Live");
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) {
        // The server refused or ended the stream: try anew, and catch up with whatever was missed.
        show("retrying", "Reconnecting");
        setTimeout(() => { open(); schedule(); }, 5000);
      } else {
        show("retrying", "Reconnecting");
      }
    };
    source.onmessage = schedule;
    for (const kind of kinds) source.addEventListener(kind, schedule);
    source.addEventListener("end", () => { source.close(); show("ended", "Ended"); schedule(); });
  }

  document.addEventListener("visibilitychange", () => { if (!document.hidden) flush(); });
  window.addEventListener("pagehide", () => source?.close());
  open();
}
