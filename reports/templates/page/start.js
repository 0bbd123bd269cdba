// Start

function listen() {
  $("model").addEventListener("change", (event) => { state.model = event.target.value; choosePair(); });
  $("task").addEventListener("change", (event) => { state.task = event.target.value; choosePair(); });
  $("method").addEventListener("change", (event) => { state.method = event.target.value; chooseMethod(); arrange(); });
  $("prompt").addEventListener("change", (event) => { state.prompt = event.target.value; prepareSweep(); });
  $("beta").addEventListener("input", (event) => {
    state.beta = String(sweep.beta[Number(event.target.value)]);
    drawSweep();
    remember();
  });
  $("filter").addEventListener("input", (event) => { state.filter = event.target.value; arrange(); });
  $("controls").addEventListener("change", (event) => { state.controls = event.target.checked ? "" : "no"; arrange(); });
  addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return; // a link within the page
    for (const key of Object.keys(state)) delete state[key];
    Object.assign(state, Object.fromEntries(new URLSearchParams(location.hash.slice(1))));
    show();
  });
}

function show() {
  $("filter").value = state.filter || "";
  $("controls").checked = state.controls !== "no";
  choosePair();
}

if (sections.length) {
  sortable();
  listen();
  if (location.hash && !location.hash.includes("=")) {
    for (const key of Object.keys(state)) delete state[key];
  }
  show();
}
