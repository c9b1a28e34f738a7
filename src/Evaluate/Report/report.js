// Sorts a table by the column whose heading button is pressed; rows without a value stay last.
document.querySelectorAll("table.sortable").forEach((table) => {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = heading.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const numeric = heading.dataset.type === "number";
      const current = heading.getAttribute("aria-sort");
      const ascending = current ? current !== "ascending" : !numeric;
      headings.forEach((h) => h.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.v ?? "";
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = numeric ? x - y : x < y ? -1 : x > y ? 1 : 0;
        return ascending ? order : -order;
      });
      table.tBodies[0].append(...rows);
    });
  });
});
