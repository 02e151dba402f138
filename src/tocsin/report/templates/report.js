"use strict";
(() => {
  const data = JSON.parse(document.getElementById("tocsin-data").textContent);
  const items = [...document.querySelectorAll(".item")].map((node) => ({
    node,
    tick: node.querySelector(".tick"),
    row: node.dataset.row || "unlisted",
    ids: node.dataset.unlisted ? data.unlisted : [data.ids[node.dataset.row]],
    flagged: !node.classList.contains("unflagged"),
    text: ((data.ids[node.dataset.row] || "") + " " + (node.closest(".group")?.dataset.label || "")).toLowerCase(),
  }));
  const at = (id) => document.getElementById(id);

  // Only what differs from the audit's own proposal is remembered. Browsers may refuse storage to files: then it is not.
  const remember = () => {
    const changed = items.filter((item) => item.tick.checked !== item.tick.defaultChecked).map((item) => item.row);
    try { localStorage.setItem(data.key, JSON.stringify(changed)); } catch (refused) { /* decisions last as long as the page */ }
  };
  const recall = () => {
    let changed = [];
    try { changed = JSON.parse(localStorage.getItem(data.key) || "[]"); } catch (refused) { changed = []; }
    const set = new Set(Array.isArray(changed) ? changed : []);
    for (const item of items) item.tick.checked = item.tick.defaultChecked !== set.has(item.row);
  };

  const tally = () => {
    let remove = 0, keep = 0;
    for (const item of items) {
      if (item.tick.checked) remove += item.ids.length;
      else if (item.flagged) keep += item.ids.length;
    }
    if (at("count")) at("count").textContent = remove.toLocaleString("en") + " to remove, " + keep.toLocaleString("en") + " to keep";
    document.documentElement.dataset.remove = String(remove);
  };

  const filter = () => {
    if (!at("filter-text")) return;
    const text = at("filter-text").value.trim().toLowerCase(), state = at("filter-state").value;
    for (const item of items) {
      if (!item.flagged) continue;
      const fits = (!text || item.text.includes(text)) && (!state || (state === "remove") === item.tick.checked);
      item.node.hidden = !fits;
    }
    for (const group of document.querySelectorAll(".group")) {
      group.hidden = !group.querySelector(".item:not([hidden])");
      for (const fold of group.querySelectorAll("details"))
        if (text && fold.querySelector(".item:not([hidden])")) fold.open = true;
    }
  };

  const setAll = (remove) => {
    for (const item of items) if (item.flagged && !item.node.hidden) item.tick.checked = remove;
    remember(); tally();
  };

  // A leading = + - @ would make a formula of a cell; the apostrophe is taken off again by tocsin.
  const cell = (text) => {
    const safe = /^'*[=+\-@\t\r]/.test(text) ? "'" + text : text;
    return /[",\r\n;\t ]/.test(safe) ? '"' + safe.replace(/"/g, '""') + '"' : safe;
  };
  const decisions = () => {
    const lines = ["id,decision"];
    for (const item of items)
      if (item.flagged || item.tick.checked)
        for (const id of item.ids) lines.push(cell(id) + "," + (item.tick.checked ? "remove" : "keep"));
    return lines.join("\n") + "\n";
  };
  // Lone surrogates stand for bytes of file names that are not UTF-8: they go out as those bytes.
  const blob = (text) => new Blob(
    text.split(/([\udc80-\udcff])/u).map((part) => (/^[\udc80-\udcff]$/u.test(part) ? new Uint8Array([part.charCodeAt(0) - 0xdc00]) : part)),
    { type: "text/csv" });
  const download = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob(decisions()));
    link.download = "decisions.csv";
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  const copy = async (button) => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch (refused) {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };

  recall(); tally();
  document.addEventListener("change", (event) => {
    if (event.target.classList.contains("tick")) { remember(); tally(); }
  });
  if (at("filter-text")) {
    at("filter-text").addEventListener("input", filter);
    at("filter-state").addEventListener("change", filter);
    at("all-remove").addEventListener("click", () => setAll(true));
    at("all-keep").addEventListener("click", () => setAll(false));
  }
  at("download").addEventListener("click", download);
  for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));
  document.documentElement.dataset.ready = "yes";
})();
