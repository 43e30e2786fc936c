"use strict";
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const shown = document.getElementById("shown");
  const cards = [...document.querySelectorAll(".card[data-op]")];
  const lanes = [...document.querySelectorAll(".lane[data-op]")];
  const chosen = (name) =>
    new Set([...form.elements].filter((box) => box.name === name && box.checked).map((box) => box.value));
  const apply = () => {
    const ops = chosen("op");
    const arrays = chosen("array");
    const unchosen = new Set([...form.elements].filter((box) => box.type === "checkbox" && !box.checked).map((box) => box.value));
    for (const lane of lanes) {
      const { op, array } = lane.dataset;
      lane.classList.toggle("faint", unchosen.has(op) || unchosen.has(array));
    }
    for (const card of cards) {
      card.hidden = !ops.has(card.dataset.op) || !card.dataset.arrays.split(" ").some((name) => arrays.has(name));
    }
    const count = cards.filter((card) => !card.hidden).length;
    shown.textContent = `${count} of ${cards.length} shown`;
  };
  // A link leads to a sample that is filtered away: show everything again.
  const follow = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target || !target.hidden) return;
    for (const box of form.elements) box.checked = true;
    apply();
    target.scrollIntoView();
  };
  form.addEventListener("change", apply);
  addEventListener("hashchange", follow);
  form.hidden = false;
  apply();
})();
