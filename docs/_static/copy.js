// A button on each block of code that copies it. Of a session, it copies the input, so that Python's prompt takes it:
// an empty line ends each statement of several lines, and none is within one.
function input(text) {
  const lines = text.split("\n");
  if (lines[0].startsWith("$ ")) {
    return lines.filter((line) => line.startsWith("$ ")).map((line) => line.slice(2) + "\n").join("");
  }
  if (!lines[0].startsWith(">>> ")) return text;
  const session = lines.filter((line) => /^(>>>|\.\.\.)( |$)/.test(line));
  return session.map((line, place) => {
    const next = session[place + 1] ?? ">>>";
    const ends = line.startsWith("...") && next.startsWith(">>>") ? "\n" : "";
    return (line.slice(4) || next.slice(4).match(/^ */)[0]) + "\n" + ends;
  }).join("");
}

document.addEventListener("DOMContentLoaded", () => {
  if (!navigator.clipboard) return;
  for (const block of document.querySelectorAll("div.highlight:not(.sphx-glr-script-out *)")) {
    const button = document.createElement("button");
    button.className = "copy";
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(input(block.querySelector("pre").textContent));
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    block.append(button);
  }
});
