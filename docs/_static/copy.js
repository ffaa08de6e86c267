// A button on each block of code that copies it. Of a session, it copies the input without the prompts.
function input(text) {
  const lines = text.split("\n");
  const prompt = lines[0].startsWith(">>> ") ? /^(>>>|\.\.\.)( |$)/ : lines[0].startsWith("$ ") ? /^\$ / : /^/;
  return lines.filter((line) => prompt.test(line)).map((line) => line.replace(prompt, "")).join("\n") + "\n";
}

document.addEventListener("DOMContentLoaded", () => {
  if (!navigator.clipboard) return;
  for (const block of document.querySelectorAll("div.highlight")) {
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
