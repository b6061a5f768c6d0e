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
    $("text").textContent = prompt.selectedOptions[0].textContent; // .text would drop spaces
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
  // Clips are strips of frames: one number moves all of them, so that they play in step.
  const gallery = $("gallery");
  const frames = Number(gallery.dataset.frames);
  if (frames > 1) {
    const [play, moment] = ["play", "moment"].map($);
    let timer = 0;
    const seek = (frame) => {
      moment.value = String(frame);
      gallery.style.setProperty("--moment", `${(100 * frame) / (frames - 1)}%`);
    };
    const run = (on) => {
      clearInterval(timer);
      if (on) timer = setInterval(() => seek((Number(moment.value) + 1) % frames), 1000 / gallery.dataset.fps);
      play.setAttribute("aria-pressed", String(on));
      play.textContent = on ? "Pause" : "Play";
    };
    play.addEventListener("click", () => run(play.getAttribute("aria-pressed") !== "true"));
    moment.addEventListener("input", () => {
      run(false);
      seek(Number(moment.value));
    });
    viewer.querySelector(".film-controls").hidden = false;
    run(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  }
  viewer.hidden = false;
  show();
  cut();
})();
