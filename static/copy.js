// Beside every text that is made to be copied: a button that copies it. The pages work without; the text is then selected by hand.
for (const text of document.querySelectorAll(".copy pre")) {
  const button = document.createElement("button");
  const label = document.createElement("span");
  const what = document.createElement("span");
  button.type = "button";
  button.className = "btn";
  label.textContent = "Copy";
  label.setAttribute("aria-live", "polite");
  what.className = "hidden";
  what.textContent = `: ${text.getAttribute("aria-label")}`;
  button.append(label, what);
  const row = document.createElement("div");
  row.className = "row";
  text.replaceWith(row);
  row.append(text, button);

  button.addEventListener("click", async () => {
    label.textContent = (await copies(text)) ? "Copied" : "Selected";
    setTimeout(() => (label.textContent = "Copy"), 2000);
  });
}

/** Puts the text on the clipboard; where the browser forbids that (over plain http, say), selects it and says false. */
async function copies(text) {
  try {
    await navigator.clipboard.writeText(text.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(text);
    return document.execCommand("copy");
  }
}
