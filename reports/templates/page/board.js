// Leaderboard: sort and filter

// A column of numbers sorts by the first number of each cell: the mean before its range, the lower
// end of an interval; the others by their text.
const NUMBER = new RegExp(`${MINUS}?(?:∞|\\d[\\d,]*(?:\\.\\d+)?(?:e${MINUS}?\\d+)?)`);

function sortValue(cell) {
  const [found] = cell.textContent.match(NUMBER) || [];
  return found ? Number(found.replaceAll(MINUS, "-").replaceAll(",", "").replace("∞", "Infinity")) : null;
}

function arrange() {
  const section = sections[current()];
  if (!section) return;
  const table = section.querySelector("table.board");
  const [head] = table.tHead.rows;
  const column = Number(state.sort ?? -1);
  [...head.cells].forEach((cell, index) => {
    if (index === column) cell.setAttribute("aria-sort", state.order === "up" ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  });
  const rows = [...table.tBodies[0].rows];
  rows.forEach((row, index) => { row.dataset.place ??= index; });
  const isNumber = head.cells[column]?.classList.contains("number");
  const sign = state.order === "up" ? 1 : -1;
  rows.sort((one, other) => {
    if (column < 0 || column >= head.cells.length) return one.dataset.place - other.dataset.place;
    const cells = [one, other].map((row) => row.cells[column]);
    const [a, b] = cells.map(isNumber ? sortValue : () => null);
    if (a === null && b === null) {
      const [x, y] = cells.map((cell) => cell.textContent.trim());
      return sign * x.localeCompare(y) || one.dataset.place - other.dataset.place;
    }
    if (a === null || b === null) return a === null ? 1 : -1; // what is no number stands last
    return sign * (a - b) || one.dataset.place - other.dataset.place;
  });
  const words = (state.filter || "").toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = [0, 1, 2, 4].map((place) => row.cells[place].textContent).join(" ").toLowerCase();
    const control = row.classList.contains("control") && state.controls === "no";
    row.hidden = control || !words.every((word) => text.includes(word));
    row.classList.toggle("chosen", row.dataset.method === state.method);
    shown += row.hidden ? 0 : 1;
  }
  table.tBodies[0].append(...rows);
  $("count").textContent = `${shown} of ${rows.length} rows`;
  remember();
}

function sortable() {
  for (const table of document.querySelectorAll("table.board")) {
    [...table.tHead.rows[0].cells].forEach((cell, index) => {
      if (cell.dataset.fixed !== undefined) return;
      const button = make("button", { type: "button" }, cell.textContent);
      button.addEventListener("click", () => {
        const again = Number(state.sort ?? -1) === index;
        state.order = again && state.order !== "up" ? "up" : "down";
        state.sort = String(index);
        arrange();
      });
      cell.replaceChildren(button);
    });
    table.tBodies[0].addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row && row.dataset.method && !getSelection().toString()) {
        state.method = row.dataset.method;
        chooseMethod();
        arrange();
      }
    });
  }
}
