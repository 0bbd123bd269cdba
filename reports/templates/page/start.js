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
  addEventListener("hashchange", () => { read(); show(); });
  DARK.addEventListener("change", () => drawMaps(chosenMethod()));
  for (const when of ["beforeprint", "afterprint"]) {
    addEventListener(when, () => { onPaper = when === "beforeprint"; drawMaps(chosenMethod()); });
  }
  for (const link of document.querySelectorAll('a[href^="#"]')) link.dataset.part = link.hash.slice(1);
}

// What the address says; "#run" alone is a part of the page.
function read() {
  const said = location.hash.slice(1);
  for (const key of Object.keys(state)) delete state[key];
  Object.assign(state, said.includes("=") ? Object.fromEntries(new URLSearchParams(said)) : { part: said });
}

function show() {
  $("filter").value = state.filter || "";
  $("controls").checked = state.controls !== "no";
  choosePair();
  const part = state.part && document.getElementById(state.part);
  if (!part) return;
  part.tabIndex = -1;
  part.focus({ preventScroll: true });
  part.scrollIntoView();
}

if (sections.length) {
  sortable();
  listen();
  read();
  show();
}
