"use strict";
// Tables are sorted by the column whose head is clicked; again, the other way round.
const leadingNumber = (text) => {
  if (/^\d+(:\d\d)+$/.test(text)) return text.split(":").reduce((sum, part) => 60 * sum + +part, 0);
  const found = text.replace(/,/g, "").replace("−", "-").match(/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?/i);
  return found ? +found[0] : NaN;
};
const sortBy = (head) => {
  const table = head.closest("table"), place = head.cellIndex, body = table.tBodies[0];
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const rows = [...body.rows].map((row) => {
    const text = row.cells[place].textContent.trim();
    return { row, text, number: leadingNumber(text) };
  });
  const numeric = rows.some(({ number }) => !isNaN(number));
  rows.sort((a, b) => {
    if (!numeric) return sign * a.text.localeCompare(b.text, undefined, { numeric: true });
    if (isNaN(a.number) || isNaN(b.number)) return isNaN(a.number) - isNaN(b.number);
    return sign * (a.number - b.number);
  });
  body.append(...rows.map(({ row }) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
};
for (const head of document.querySelectorAll("thead th")) {
  head.tabIndex = 0;
  head.title = "sort by this column";
  head.addEventListener("click", () => sortBy(head));
  head.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    sortBy(head);
  });
}
// Titles of a figure are shown at once, and on a touch screen too.
const note = document.createElement("div");
note.id = "note";
note.hidden = true;
document.body.append(note);
for (const title of document.querySelectorAll(".notes title")) {
  title.parentNode.dataset.note = title.textContent;
  title.parentNode.setAttribute("aria-label", title.textContent);
  title.remove();
}
document.addEventListener("pointerover", (event) => {
  const target = event.target.closest ? event.target.closest("[data-note]") : null;
  note.hidden = !target;
  if (!target) return;
  note.textContent = target.dataset.note;
  const mark = target.getBoundingClientRect(), own = note.getBoundingClientRect();
  const left = mark.left + mark.width / 2 - own.width / 2;
  note.style.left = `${Math.max(8, Math.min(left, document.documentElement.clientWidth - own.width - 8))}px`;
  note.style.top = `${mark.top > own.height + 12 ? mark.top - own.height - 8 : mark.bottom + 8}px`;
});
document.addEventListener("scroll", () => { note.hidden = true; }, true);
