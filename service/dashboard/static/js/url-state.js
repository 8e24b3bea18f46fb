// What a reader chose (axes, view, toggles, limits, selection) lives in the URL, so that a link shows the same page.

const LIMIT = "limit.";

/** Reads the state from the address; absent keys take the defaults. */
export function readState(defaults) {
  const query = new URLSearchParams(location.search);
  const limits = {};
  for (const [key, text] of query) {
    const bound = Number(text);
    if (key.startsWith(LIMIT) && text !== "" && Number.isFinite(bound)) limits[key.slice(LIMIT.length)] = bound;
  }
  return {
    x: query.get("x") ?? defaults.x,
    y: query.get("y") ?? defaults.y,
    view: query.get("view") === "believed" || query.get("view") === "verified" ? query.get("view") : defaults.view,
    xlog: query.get("xlog") === "1",
    ylog: query.get("ylog") === "1",
    feasible: query.get("feasible") === "1",
    against: query.get("against") === "time" ? "time" : "trials",
    best: query.get("best") ?? defaults.best,
    pick: query.has("pick") && /^\d+$/.test(query.get("pick")) ? Number(query.get("pick")) : null,
    limits,
  };
}

/** Writes the state to the address without a new history entry; what equals the default is left out. */
export function writeState(state, defaults) {
  const query = new URLSearchParams();
  for (const key of ["x", "y", "view", "best"]) if (state[key] !== defaults[key]) query.set(key, state[key]);
  for (const key of ["xlog", "ylog", "feasible"]) if (state[key]) query.set(key, "1");
  if (state.against === "time") query.set("against", "time");
  if (state.pick !== null) query.set("pick", String(state.pick));
  for (const [key, bound] of Object.entries(state.limits)) query.set(LIMIT + key, String(bound));
  const text = query.toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
}
