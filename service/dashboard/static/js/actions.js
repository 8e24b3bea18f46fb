// Pause, resume, cancel and retry: POSTs to the API from this origin, confirmed where they cannot be undone.

/** One line at the bottom of the window for a few seconds; also read out by screen readers. */
export function toast(message) {
  document.querySelector(".toast")?.remove();
  const box = document.createElement("div");
  box.className = "toast";
  box.setAttribute("role", "status");
  box.textContent = message;
  document.body.append(box);
  setTimeout(() => box.remove(), 6000);
}

/** Headers that only a page of this server can send: the session's token, where someone has signed in. */
function ours() {
  const token = document.querySelector('meta[name="csrf-token"]')?.content;
  // Another origin's page cannot send a custom header without a CORS preflight, which the server never grants.
  return { "X-Requested-With": "archsmith-dashboard", ...(token ? { "X-CSRF-Token": token } : {}) };
}

/** Asks in a modal dialog; resolves to true when confirmed. */
function confirmed(title, text, verb) {
  const dialog = document.getElementById("confirm");
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector("p").textContent = text;
  dialog.querySelector("[value=yes]").textContent = verb;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** What the server's problem+json says, or the status where there is none. */
async function problemText(response) {
  try {
    const problem = await response.json();
    return problem.detail ?? problem.title ?? `HTTP ${response.status}`;
  } catch {
    return `HTTP ${response.status}`;
  }
}

/** Signs out of this browser, then shows the login page. */
export function wireSignOut() {
  document.getElementById("sign-out")?.addEventListener("click", async (event) => {
    const response = await fetch(event.target.dataset.logout, { method: "POST", headers: ours(), credentials: "same-origin" });
    if (response.ok) location.assign(event.target.dataset.next);
    else toast(await problemText(response));
  });
}

/** Wires every present and later button with `data-post`; `data-confirm` holds the question to ask first. */
export function wireActions() {
  document.body.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-post]");
    if (!button) return;
    const { post, confirm, confirmTitle, done } = button.dataset;
    if (confirm && !(await confirmed(confirmTitle, confirm, button.textContent.trim()))) return;
    button.disabled = true;
    try {
      const response = await fetch(post, {
        method: "POST",
        headers: { ...ours(), Accept: "application/json" },
        credentials: "same-origin",
      });
      toast(response.ok ? done : await problemText(response));
    } catch {
      toast("The server cannot be reached. Check that it runs, then try again.");
    } finally {
      button.disabled = false;
      document.body.dispatchEvent(new CustomEvent("archsmith:update"));
    }
  });
}
