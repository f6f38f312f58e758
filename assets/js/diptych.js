/* What the views of the page share: small DOM helpers, the page's state in the browser, keys.
   Text from models and users only ever becomes DOM through textContent (el, setText) or, for the rendered view of an
   answer, through DOMPurify. Nothing here builds markup from strings. */
(function () {
  "use strict";
  if (window.diptych) return;

  /** Make an element: el("p", {class: "x", title: "y"}, "text" | node, ...). */
  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? "" : String(value));
    }
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined || child === "") continue;
      node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return node;
  }

  /** Replace an element's children. */
  function fill(node, ...children) {
    node.replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== "")
      .map((c) => (c instanceof Node ? c : document.createTextNode(String(c)))));
    return node;
  }

  /** A small button; `focus` names it where a part is drawn anew, `kind` is a further class. */
  function button(label, action, focus, kind) {
    return el("button", { class: `dt-btn dt-small ${kind || ""}`, type: "button", onclick: action, "data-focus": focus }, label);
  }

  /** A button that reads as a word of the text. */
  function link(label, action, title, disabled) {
    return el("button", { class: "dt-link", type: "button", title, disabled, onclick: action }, label);
  }

  /** How many of the edges a value reaches. */
  function steps(value, edges) { return edges.filter((edge) => value >= edge).length; }

  /** Draw a part anew; a control in it that had the focus hands it to its counterpart, so that keys go on from there. */
  function keepFocus(node, draw) {
    const had = document.activeElement;
    const alike = () => [...node.querySelectorAll(had.tagName)].filter((n) => n.className === had.className && !n.disabled);
    if (!had || !node.contains(had)) { draw(); return; }
    const index = alike().indexOf(had), text = had.textContent;
    draw();
    if (document.activeElement === had) return;
    const found = alike();
    (node.contains(had) ? had : found.find((n) => n.textContent === text) || found[index] || node.querySelector("button:enabled"))?.focus({ preventScroll: true });
  }

  function setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  /** Text as nodes, with what can't be seen made visible: line breaks, tabs, controls, joiners, direction marks. */
  function visible(text) {
    const parts = [];
    let plain = "";
    const flush = () => { if (plain) parts.push(plain); plain = ""; };
    for (const char of text) {
      if (char === "\n") { flush(); parts.push(el("span", { class: "dt-unseen" }, "⏎"), "\n"); }
      else if (char === "\t") { flush(); parts.push(el("span", { class: "dt-unseen" }, "⇥"), "\t"); }
      else if (/[\p{Cc}\p{Cf}\p{Cs}\p{Default_Ignorable_Code_Point}\u2028\u2029\u2800]/u.test(char)) {
        flush();
        parts.push(el("span", { class: "dt-unseen" }, `⟨U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`));
      } else plain += char;
    }
    flush();
    return parts.length ? parts : [el("span", { class: "dt-unseen" }, "∅")];
  }

  /** Markdown of an untrusted answer, as safe nodes: no pictures, no forms, no styles, no live links out of the page. */
  function renderMarkdown(text) {
    const dirty = window.marked.parse(text, { gfm: true, breaks: true, async: false });
    return window.DOMPurify.sanitize(dirty, {
      RETURN_DOM_FRAGMENT: true,
      ALLOWED_TAGS: ["p", "br", "strong", "em", "del", "code", "pre", "ul", "ol", "li", "blockquote", "hr", "h1", "h2",
        "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"],
      ALLOWED_ATTR: ["align", "start"],
    });
  }

  function randomKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  }

  /* ---- the page's state in the browser: what is attached, what each column shows ---- */
  const listeners = [];
  const state = { attached: [], columns: {}, selected: {}, editing: null, focus: null, left: null };
  function changed() { for (const listener of listeners) listener(state); }
  function subscribe(listener) { listeners.push(listener); listener(state); }

  function visibleColumns() {
    return Object.values(state.columns).filter((c) => c.value && c.element.offsetParent !== null);
  }
  /** Whether every column that the page shows has got its first value. */
  function columnsDrawn() {
    const shown = [...document.querySelectorAll(".dt-col")].filter((c) => c.offsetParent !== null).length;
    return shown > 0 && visibleColumns().length >= shown;
  }
  function turnsOfPage() {
    const columns = visibleColumns().map((c) => c.value.turns || []);
    return columns.reduce((longest, turns) => (turns.length > longest.length ? turns : longest), []);
  }
  function isStreaming() {
    return visibleColumns().some((c) => (c.value.turns || []).some((t) => t.answers.some((a) => a.outcome === "streaming")));
  }
  /** The answers each column's conversation rests on: the sibling that the person looks at. */
  function history() {
    const chosen = {};
    for (const column of Object.values(state.columns)) {
      chosen[column.position] = ((column.value || {}).turns || [])
        .filter((turn) => turn.answers.length)
        .map((turn) => turn.answers[pickedIndex(turn)].id);
    }
    return chosen;
  }
  function pickedIndex(turn) {
    const wanted = state.selected[turn.answers.length ? turn.answers[0].id : ""];
    const index = turn.answers.findIndex((a) => a.id === wanted);
    return index >= 0 ? index : turn.answers.length - 1;
  }
  /** Empty columns at once, without asking Python; the conversation stays in the history. */
  function newConversation() {
    const turns = turnsOfPage();
    if (!turns.length) return;
    Object.assign(state, { left: turns.at(-1).id, selected: {} });
    const columns = Object.values(state.columns);
    for (const column of columns) column.value = { ...column.value, turns: [] }; // all of them before anything is drawn
    for (const column of columns) column.draw();
    showTurnInAddress(null);
  }
  function showTurnInAddress(id) {
    const url = new URL(window.location.href);
    if ((url.searchParams.get("trace") || "") === (id || "")) return;
    if (id) url.searchParams.set("trace", id); else url.searchParams.delete("trace");
    window.history.replaceState(null, "", url);
  }

  /* ---- keys: none of them while a person types ---- */
  const keys = [];
  function onKey(key, label, action) { keys.push({ key, label, action }); }
  function isTyping(target) {
    return target instanceof HTMLElement && (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName));
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || (isTyping(event.target) && event.key !== "Escape")) return;
    if (document.querySelector("dialog[open]") && event.key !== "Escape") return;
    // Several tabs may use a key; an action that does not apply now returns false and leaves it to the next.
    for (const hit of keys.filter((k) => k.key === event.key)) if (hit.action(event) !== false) { event.preventDefault(); return; }
  });

  /** A sheet over the page; Escape or a click outside closes it. Native <dialog>: focus and Escape are the browser's. */
  function openSheet(title, ...content) {
    const close = el("button", { class: "dt-icon", "aria-label": "Close", type: "button" }, "✕");
    const sheet = el("dialog", { class: "dt-sheet", "aria-label": title },
      el("header", {}, el("h2", {}, title), close), ...content);
    close.addEventListener("click", () => sheet.close());
    sheet.addEventListener("click", (event) => { if (event.target === sheet) sheet.close(); });
    sheet.addEventListener("close", () => sheet.remove());
    // The browser says "close" a frame later; until then the closed sheet's field would still take the next key.
    const shut = sheet.close.bind(sheet);
    sheet.close = () => { shut(); sheet.remove(); };
    document.body.append(sheet);
    sheet.showModal();
    return sheet;
  }
  const KEY_NAMES = { " ": "Space", Escape: "Esc", ArrowLeft: "←", ArrowRight: "→" };
  /* Keys that are not handled here: those of a field or of the picture. */
  const MORE_KEYS = { Compare: [["Enter", "Ask (Shift + Enter for a new line)"]], Review: [["Ctrl + Enter", "Save and next, from a field too"]], Everywhere: [["+ − 0", "Zoom in, zoom out, fit, while the picture has the focus; the arrows move it"]] };
  onKey("?", "Everywhere: this list", () => {
    const groups = { Compare: [], Review: [], Everywhere: [] };
    for (const { key, label } of keys) {
      const [, group, words] = /^(?:(Review|Everywhere): )?(.*)$/.exec(label);
      groups[group || "Compare"].push([KEY_NAMES[key] || key, words[0].toUpperCase() + words.slice(1)]);
    }
    const shown = document.querySelector("#dt-tabs > .tab-wrapper [role=tab][aria-selected=true]")?.textContent.trim();
    const names = Object.keys(groups).sort((one, two) => (two === shown) - (one === shown));
    openSheet("Keys", names.map((name) => [el("h3", {}, name), el("dl", { class: "dt-keys" },
      [...groups[name], ...MORE_KEYS[name]].map(([key, words]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, words)]))]));
  });

  /** Go to a tab, as a click on it would. */
  function showTab(name) {
    [...document.querySelectorAll("#dt-tabs > .tab-wrapper [role=tab]")].find((tab) => tab.textContent.trim() === name)?.click();
    window.scrollTo({ top: 0 });
  }

  function toast(message) {
    const note = el("div", { class: "dt-toast", role: "status" }, message);
    document.body.append(note);
    setTimeout(() => note.remove(), 2600);
  }
  async function copyText(text) {
    try { await navigator.clipboard.writeText(text); toast("Copied"); } catch { toast("The browser did not allow copying"); }
  }

  /** Give a gr.HTML component its life: draw now and whenever Python sends a value. */
  function bind(props, watch, draw) {
    const update = () => draw(props.value || {});
    watch("value", update);
    update();
  }

  /** In recorded mode nothing can be asked, started or changed, and nothing on the page offers it. */
  const recorded = document.querySelector('meta[name="diptych-mode"]')?.content === "recorded";

  /** A tab that has nothing but a sentence. */
  function sentence(element, props, _trigger, watch) { bind(props, watch, (value) => fill(element, el("p", { class: "dt-sentence dt-soft" }, value.text))); }

  /* ---- who signed in ---- */
  let who = null;
  const waiting = [];
  /** The corner got to know who looks at the page, and where one can sign in. */
  function met(value) {
    who = value;
    for (const show of waiting.splice(0)) if (show.node.isConnected) { show(); waiting.push(show); }
  }
  /** A Space shows the page in a frame, in which Hugging Face shows nothing: there it opens in a tab of its own. */
  function signInLink(value) {
    const framed = window.self !== window.top;
    const back = `?back=${encodeURIComponent(window.location.pathname + window.location.search)}`;
    return el("a", { class: "dt-link", href: `.${value.sign_in}${value.elsewhere ? back : ""}`, target: framed ? "_blank" : null, rel: "noopener" }, value.elsewhere ? "Sign in with Hugging Face" : "Sign in");
  }
  /** A sentence for somebody who may not do something, such as "start jobs": how to, or why not. */
  function askToSignIn(what) {
    const node = el("span", {});
    const show = () => fill(node, who?.person ? `You are signed in as ${who.person}; only the owner of this page can ${what}.`
      : who?.sign_in ? [signInLink(who), ` to ${what}.`] : `Visitors can look, not ${what}.`);
    show.node = node;
    waiting.push(show);
    show();
    return node;
  }

  window.diptych = { recorded, met, signInLink, askToSignIn, sentence, el, button, link, fill, setText, steps, keepFocus, visible, renderMarkdown, randomKey, state, changed, subscribe, visibleColumns, columnsDrawn, turnsOfPage,
    isStreaming, history, pickedIndex, newConversation, showTurnInAddress, onKey, openSheet, showTab, toast, copyText, bind };
})();
