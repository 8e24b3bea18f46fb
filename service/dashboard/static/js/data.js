// What the search page fetches: the front with its formats as JSON, the background trials as packed binary.

async function ok(response) {
  if (!response.ok) throw new Error(`${response.url}: HTTP ${response.status}`);
  return response;
}

/** Axes, front members (believed and verified), hypervolume history and defaults. */
export async function fetchChart(url) {
  return (await ok(await fetch(url, { credentials: "same-origin" }))).json();
}

/** No background trials. */
export const EMPTY_CLOUD = { x: new Float32Array(0), y: new Float32Array(0), feasible: new Uint8Array(0) };

/**
 * Background trials in two objectives: the API sends n float32 x, n float32 y, then n bytes (1 = feasible),
 * little-endian, at most 50,000 points chosen evenly over the plane.
 */
export async function fetchCloud(url, x, y) {
  const query = new URLSearchParams({ x, y });
  const buffer = await (await ok(await fetch(`${url}?${query}`, { credentials: "same-origin" }))).arrayBuffer();
  const count = buffer.byteLength / 9;
  return {
    x: new Float32Array(buffer, 0, count),
    y: new Float32Array(buffer, 4 * count, count),
    feasible: new Uint8Array(buffer, 8 * count, count),
  };
}
