"use strict";
for (const input of document.querySelectorAll("input[data-filter]")) {
  const rows = [...document.querySelectorAll("#" + input.dataset.filter + " tbody tr")];
  const said = document.getElementById(input.dataset.filter + "-said");
  const buttons = [...document.querySelectorAll('button[data-of="' + input.dataset.filter + '"]')];
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const states = buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.state);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(words.every((w) => text.includes(w)) && (states.length === 0 || states.includes(row.dataset.state)));
      if (!row.hidden) shown++;
    }
    said.textContent = shown + " of " + rows.length + " shown";
  };
  for (const b of buttons) {
    b.addEventListener("click", () => {
      b.setAttribute("aria-pressed", b.getAttribute("aria-pressed") === "true" ? "false" : "true");
      apply();
    });
  }
  input.addEventListener("input", apply);
  input.closest(".filter").hidden = false;
}
for (const link of document.querySelectorAll('a[href^="#"]')) {
  link.addEventListener("click", () => {
    const target = document.getElementById(link.getAttribute("href").slice(1));
    if (target) for (const d of target.querySelectorAll("details.main")) d.open = true;
  });
}
