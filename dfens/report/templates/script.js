"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });
  label();

  const value = (cell) => (cell.dataset.key !== undefined ? (cell.dataset.key === "" ? NaN : Number(cell.dataset.key)) : cell.textContent.trim());
  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b);
    if (Number.isNaN(a)) return Number.isNaN(b) ? 0 : 1; // missing values last
    if (Number.isNaN(b)) return -1;
    return a - b;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const falling = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : head.classList.contains("number");
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [value(row.cells[column]), row]);
        rows.sort(([a], [b]) => (typeof a === "number" && (Number.isNaN(a) || Number.isNaN(b)) ? compare(a, b) : falling ? compare(b, a) : compare(a, b)));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  for (const button of document.querySelectorAll("button.copy")) {
    const tables = [...button.previousElementSibling.querySelectorAll("table")];
    button.addEventListener("click", async () => {
      const text = tables.flatMap((table) => [...table.rows]).map((row) => [...row.cells].map((cell) => cell.textContent.trim().replace(/\s+/g, " ")).join("\t")).join("\n");
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        // Without a secure context (a page opened from a mail) the clipboard needs a selection.
        const area = document.createElement("textarea");
        area.value = text;
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      const label = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = label; }, 1500);
    });
  }

  const viewer = document.getElementById("viewer");
  for (const button of document.querySelectorAll("button.enlarge")) {
    button.addEventListener("click", () => {
      viewer.querySelector("img").src = button.dataset.large;
      viewer.querySelector("img").alt = button.firstElementChild.alt;
      viewer.querySelector("p").textContent = button.parentElement.innerText;
      for (const old of viewer.querySelectorAll(".sound")) old.remove();
      for (const sound of button.querySelectorAll(".sound")) viewer.querySelector("p").before(sound.cloneNode(true));
      viewer.showModal();
    });
  }
})();
