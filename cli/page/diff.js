"use strict";
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const shown = document.getElementById("shown");
  const search = document.getElementById("search");
  const cards = [...document.querySelectorAll(".card[data-op]")];
  const lanes = [...document.querySelectorAll(".lane[data-op]")];
  const boxes = [...form.elements].filter((box) => box.type === "checkbox");
  const texts = new Map();
  let current = null;
  // A token's line end is a sign and an end: who searches types a blank for it, or nothing.
  const text = (card) => {
    if (!texts.has(card)) texts.set(card, card.textContent.replace(/\u23ce?\s+/g, " ").toLowerCase());
    return texts.get(card);
  };
  const chosen = (name) => new Set(boxes.filter((box) => box.name === name && box.checked).map((box) => box.value));
  const apply = () => {
    const ops = chosen("op");
    const arrays = chosen("array");
    const wanted = search.value.replace(/\s+/g, " ").toLowerCase();
    const unchosen = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));
    for (const lane of lanes) {
      const { op, array } = lane.dataset;
      lane.classList.toggle("faint", unchosen.has(op) || unchosen.has(array));
    }
    for (const card of cards) {
      card.hidden =
        !ops.has(card.dataset.op) ||
        !card.dataset.arrays.split(" ").some((name) => arrays.has(name)) ||
        (wanted !== "" && !text(card).includes(wanted));
    }
    const count = cards.filter((card) => !card.hidden).length;
    shown.textContent = `${count} of ${cards.length} shown`;
  };
  const stand = (card) => {
    if (current) current.classList.remove("current");
    current = card;
    if (card) card.classList.add("current");
  };
  // From the sample at hand, or from where the page is scrolled to; at an end it stays.
  const step = (by) => {
    const visible = cards.filter((card) => !card.hidden);
    if (!visible.length) return;
    const at = visible.indexOf(current);
    const below = visible.findIndex((card) => card.getBoundingClientRect().bottom > 80);
    const start = by > 0 ? (below < 0 ? visible.length - 1 : below) : (below < 0 ? visible.length : below) - 1;
    const next = at >= 0 ? at + by : start;
    stand(visible[Math.min(Math.max(next, 0), visible.length - 1)]);
    current.scrollIntoView({ block: "start" });
  };
  // A link leads to a sample that is filtered away: show everything again.
  const follow = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    stand(cards.includes(target) ? target : current);
    if (!target.hidden) return;
    for (const box of boxes) box.checked = true;
    search.value = "";
    apply();
    target.scrollIntoView();
  };
  const keys = { j: 1, n: 1, ArrowRight: 1, k: -1, p: -1, ArrowLeft: -1 };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === search) {
      if (event.key === "Escape") {
        search.value = "";
        apply();
        search.blur();
      }
      return;
    }
    if (event.key === "/") search.focus();
    else if (event.key in keys) step(keys[event.key]);
    else return;
    event.preventDefault();
  });
  document.getElementById("next").addEventListener("click", () => step(1));
  document.getElementById("previous").addEventListener("click", () => step(-1));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", apply);
  search.addEventListener("input", apply);
  addEventListener("hashchange", follow);
  form.hidden = false;
  document.getElementById("keys").hidden = false;
  apply();
})();
