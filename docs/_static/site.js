// A button on each block of code that copies it, so that Python's prompt takes it: of a session only the input, and an
// empty line ends each statement of several lines, and none is within one.
function input(text, python) {
  const lines = text.split("\n");
  if (lines[0].startsWith("$ ")) {
    return lines.filter((line) => line.startsWith("$ ")).map((line) => line.slice(2) + "\n").join("");
  }
  if (!lines[0].startsWith(">>> ")) return python ? script(lines) : text;
  const session = lines.filter((line) => /^(>>>|\.\.\.)( |$)/.test(line));
  return session.map((line, place) => {
    const next = session[place + 1] ?? ">>>";
    const ends = line.startsWith("...") && next.startsWith(">>>") ? "\n" : "";
    return (line.slice(4) || next.slice(4).match(/^ */)[0]) + "\n" + ends;
  }).join("");
}

function script(lines) {
  return lines.map((line, place) => {
    const next = lines.slice(place + 1).find((each) => each.trim()) ?? "";
    if (!line) return next.match(/^ */)[0];
    const ends = line.startsWith(" ") && lines[place + 1] && /^(?!else|elif|except|finally)[a-z@]/i.test(lines[place + 1]);
    return ends ? line + "\n" : line;
  }).join("\n");
}

document.addEventListener("DOMContentLoaded", () => {
  if (!navigator.clipboard) return;
  for (const block of document.querySelectorAll("div.highlight:not(.sphx-glr-script-out *)")) {
    const python = block.closest(".highlight-python, .highlight-py, .highlight-Python") !== null;
    const button = document.createElement("button");
    button.className = "copy";
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(input(block.querySelector("pre").textContent, python));
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    block.append(button);
  }
});

// Each cell of two programs side by side knows which program it is: a narrow screen shows that in place of the header.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.sides")) {
    const labels = [...table.querySelectorAll("th")].map((header) => header.textContent);
    for (const row of table.rows) {
      [...row.cells].forEach((cell, column) => { cell.dataset.label = labels[column]; });
    }
  }
});
