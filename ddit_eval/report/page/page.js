"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;

  // The theme: the system's until the button is pressed.
  const theme = $("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const label = () => {
    theme.setAttribute("aria-pressed", String(dark()));
    theme.textContent = dark() ? "Light" : "Dark";
  };
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    label();
  });
  system.addEventListener("change", label);
  label();

  // On paper everything is unfolded.
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
  });

  const viewer = $("viewer");
  if (!viewer) return;
  const [method, prompt, split] = ["method", "prompt", "split"].map($);
  const cell = (m, p) => document.querySelector(`[data-method="${m}"][data-prompt="${p}"]`);
  const heads = document.querySelectorAll(".sheet thead th");
  const show = () => {
    const [m, p] = [Number(method.value), Number(prompt.value)];
    const [base, ours] = [cell(0, p).firstChild, cell(m, p).firstChild];
    for (const [to, from] of [[$("under"), ours], [$("over"), base]]) {
      to.src = from.src;
      to.alt = from.alt;
    }
    $("name").textContent = method.selectedOptions[0].text;
    $("text").textContent = prompt.selectedOptions[0].text;
    $("note").textContent = heads[m + 1].querySelector("span").textContent;
    for (const button of document.querySelectorAll(".sheet button"))
      button.setAttribute("aria-current", String(button === cell(m, p)));
  };
  const cut = () => {
    viewer.style.setProperty("--split", `${split.value}%`);
    for (const button of viewer.querySelectorAll("[data-split]"))
      button.setAttribute("aria-pressed", String(button.dataset.split === split.value));
  };
  method.addEventListener("change", show);
  prompt.addEventListener("change", show);
  split.addEventListener("input", cut);
  for (const button of viewer.querySelectorAll("[data-split]"))
    button.addEventListener("click", () => {
      split.value = button.dataset.split;
      cut();
    });
  for (const button of document.querySelectorAll(".sheet button"))
    button.addEventListener("click", () => {
      prompt.value = button.dataset.prompt;
      if (button.dataset.method !== "0") method.value = button.dataset.method;
      show();
    });
  viewer.hidden = false;
  show();
  cut();
})();
