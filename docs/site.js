// On a phone, a row of a table with much text is shown as a card (see site.css), where each cell needs its heading.
for (const table of document.querySelectorAll(".md-typeset table:not([class])")) {
  const headings = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
  const cells = [...table.querySelectorAll("tbody td")];
  const numbers = cells.filter((cell) => /^[\d,.x%\s]*$/.test(cell.textContent)).length;
  if (headings.length < 3 || numbers > cells.length / 2) continue;
  table.dataset.cards = "";
  cells.forEach((cell, index) => { cell.dataset.heading = headings[index % headings.length]; });
}
