/* The judging desk of the Review tab. Until the verdict it knows nothing of which answer is whose; that is Python's
   seal (components/review/view_model.py), not this file's. Every text comes from a model or a person and only ever
   becomes DOM through textContent. What is not submitted yet is kept here and on the server. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, button, fill, setText } = d;
  const CHOICES = [["1", "a", "A is better"], ["2", "b", "B is better"], ["3", "tie", "Tie"], ["4", "both_bad", "Both bad"]];
  const OUTCOMES = { regressed: "Regressed", improved: "Improved", both_wrong: "Both wrong", same: "Same", conflict: "Conflict", unreviewed: "Not reviewed", failed: "Failed" };
  const PATIENCE_MS = 15000, DRAFT_MS = 700;
  const HEAT = [0.01, 0.05, 0.2, 1];
  const MAX_DIFF = 2000; // words of one answer; longer ones are shown without a diff

  const keep = {
    get: (name, fallback) => { try { return JSON.parse(localStorage.getItem(`diptych.review.${name}`)) ?? fallback; } catch { return fallback; } },
    set: (name, value) => { try { localStorage.setItem(`diptych.review.${name}`, JSON.stringify(value)); } catch { /* private mode */ } },
    drop: (name) => { try { localStorage.removeItem(`diptych.review.${name}`); } catch { /* private mode */ } },
  };
  /* What the three views of the tab share. */
  const review = d.review = {
    keep, OUTCOMES, user: null, isOwner: false, mayReview: null, progress: null, listeners: [],
    name: keep.get("reviewer", ""), batch: keep.get("batch", ""), order: keep.get("order", "divergence"), filter: keep.get("filter", {}), mode: "judge",
    find: null, // a filter that the list of items shall take over
    get reviewer() { return this.user || this.name; },
    changed(what) { for (const listener of this.listeners) listener(what); },
    query() { return { reviewer: this.reviewer, batch: this.batch, order: this.order, filter: this.filter }; },
  };
  const empty = () => ({ verdict: null, a_right: null, b_right: null, claims: [], note: "", zoomed: false });

  window.diptych.reviewDesk = function (element, props, trigger, watch) {
    const me = { item: null, draft: empty(), judged: [], key: null, waiting: null, timer: null, started: false, seen: 0, diff: keep.get("diff", true), heat: false, done: false };
    const picture = el("img", { class: "dt-picture", alt: "", draggable: "false" });
    const boxes = el("div", { class: "dt-boxes" });
    const stage = el("div", { class: "dt-stage", tabindex: "0", role: "group", "aria-label": "Picture: + and − zoom, arrows move, 0 fits" }, picture, boxes);
    const zoom = d.zoomable(stage, picture, () => !!me.item?.images.length, () => { if (!me.draft.zoomed) { me.draft.zoomed = true; save(); } });
    let shownImage = 0;
    d.bind(props, watch, receive);
    new IntersectionObserver(() => begin()).observe(element);
    review.listeners.push((what) => {
      if (what === "mode") element.hidden = review.mode !== "judge";
      if (what === "progress") count();
      if (what === "queue" && me.started) { if (me.item) d.toast("From the next item on"); else send("next", {}); }
      if (what === "who" || what === "batch") { me.item = null; me.started = false; me.done = false; draw(); begin(); }
    });
    const visible = () => element.offsetParent !== null && review.mode === "judge";

    /** What the chosen order may bring. */
    function waiting() { return counts()?.[review.order === "conflicts" ? "conflicts" : "open"] || 0; }
    function counts() { return review.progress?.batch === review.batch ? review.progress.counts : null; }
    /** What is known of the batch has changed: a number, or there is something to judge for somebody who waits. */
    function count() {
      const shown = element.querySelector(".dt-review-count");
      if (shown) setText(shown, countWords());
      if (me.item || !me.done || me.key || !visible() || review.mode !== "judge") return;
      if (waiting() > me.seen) { me.seen = waiting(); send("next", {}); } else draw();
    }
    function begin() {
      if (me.started || element.offsetParent === null || !review.mayReview || !review.reviewer || !review.batch) return draw();
      me.started = true;
      send("next", {});
    }
    /** One request at a time; a key pressed meanwhile is not lost but done when the answer is there. */
    function send(event, data) {
      if (me.key) { me.waiting = { event, data, item: me.item?.item_id }; return; }
      me.key = d.randomKey();
      element.classList.add("dt-busy");
      trigger(event, { ...review.query(), ...data, key: me.key });
      clearTimeout(me.timer);
      me.timer = setTimeout(() => { settle(); me.waiting = null; say("The server did not answer.", "What you wrote is kept. Try again."); }, PATIENCE_MS);
    }
    function goOn() {
      const wanted = me.waiting;
      me.waiting = null;
      if (!wanted) return;
      if (wanted.event === "next") send("next", {});
      else if (wanted.item === me.item?.item_id) send(wanted.event, wanted.data);
    }
    function settle() { me.key = null; clearTimeout(me.timer); element.classList.remove("dt-busy"); }
    function receive(value) {
      if (!value.key || value.key !== me.key) { if (!me.item) draw(); return; }
      settle();
      if (value.refused) { say(value.refused.message, value.refused.hint); goOn(); return; }
      if (value.stored) { keep.drop(place(value.stored)); d.toast("Saved"); }
      if (value.undone) d.toast("Taken back");
      me.judged = value.judged || [];
      me.batch = value.batch;
      me.ownConflicts = value.own_conflicts || 0;
      review.progress = value.batch && { batch: value.batch.id, state: value.batch.state, counts: value.progress };
      me.done = !value.item;
      me.seen = waiting();
      review.changed("progress");
      if (value.batch && value.batch.id !== review.batch) { send("next", {}); return; } // chosen while it was on its way
      take(value.item);
      goOn();
    }
    function take(item) {
      const isOther = item?.item_id !== me.item?.item_id;
      me.item = item;
      me.heat = false;
      shownImage = 0;
      const own = item && (item.verdict || keep.get(place(item.item_id), null) || item.draft);
      me.draft = empty();
      for (const name of Object.keys(me.draft)) if (own && name in own) me.draft[name] = own[name];
      zoom.fit();
      draw();
      // On a phone the button that saves is below the picture: the next item is shown from its beginning.
      if (isOther && visible() && element.getBoundingClientRect().top < 0) element.scrollIntoView({ block: "start" });
    }
    /** Where a draft is kept in this browser: people who share it must not see each other's. */
    function place(id) { return `draft.${review.reviewer}.${id}`; }
    /** Keep what is not submitted: here at once, on the server a little later. */
    let saving = null;
    function save() {
      if (!me.item) return;
      const id = me.item.item_id;
      keep.set(place(id), me.draft);
      clearTimeout(saving);
      saving = setTimeout(() => trigger("draft", { reviewer: review.reviewer, item_id: id, draft: me.draft }), DRAFT_MS);
    }
    function say(message, hint) {
      const box = element.querySelector(".dt-review-trouble");
      if (box) fill(box, el("p", {}, el("b", {}, message), hint ? ` ${hint}` : ""));
      else d.toast(message);
    }

    /* ---- what a reviewer does ---- */
    function choose(verdict) { me.draft.verdict = me.draft.verdict === verdict ? null : verdict; save(); draw(); }
    function right(side) {
      const name = `${side}_right`, next = { null: true, true: false, false: null };
      me.draft[name] = next[String(me.draft[name])];
      save(); draw();
    }
    function submit() {
      if (!me.item) return;
      if (!me.draft.verdict) { say("There is no verdict yet.", "Press 1, 2, 3 or 4."); return; }
      clearTimeout(saving);
      send("submit", { judgement: { ...me.draft, item_id: me.item.item_id }, stay: !!me.item.verdict });
    }
    function move(step) {
      const place = me.judged.indexOf(me.item?.item_id);
      const at = place < 0 ? me.judged.length : place;
      const to = at + step;
      if (to < 0) { say(me.judged.length ? "This is the first item you judged." : "You have judged nothing in this batch yet.", ""); return; }
      if (to < me.judged.length) send("open", { item_id: me.judged[to] });
      else if (place >= 0) send("next", {});
      else if (me.item) send("skip", { item_id: me.item.item_id });
    }
    /* Enter presses the button that somebody went to by Tab; one that was clicked, or left for a key of the desk, it does not. */
    let tabbed = false;
    document.addEventListener("pointerdown", () => { tabbed = false; });
    document.addEventListener("keydown", (event) => { if (event.key !== "Enter" && event.key !== "Shift") tabbed = event.key === "Tab"; }, true);
    const key = (name, label, action) => d.onKey(name, `Review: ${label}`, (event) => (visible() && me.item ? action(event) : false));
    for (const [name, verdict, label] of CHOICES) key(name, label, () => choose(verdict));
    key("a", "A is right, wrong, not said", () => right("a"));
    key("b", "B is right, wrong, not said", () => right("b"));
    key("Enter", "Save and next", () => (tabbed && ["BUTTON", "A", "SUMMARY"].includes(document.activeElement?.tagName) ? false : submit()));
    key("ArrowLeft", "Back to the item before", () => move(-1));
    key("ArrowRight", "Skip, or go forward again", () => move(1));
    d.onKey("u", "Review: undo the last verdict", () => (visible() && review.reviewer && me.started ? send("undo", {}) : false));
    key("e", "Say what is wrong in an answer", () => claimSheet());
    key("m", "Write a note", () => element.querySelector(".dt-review-note")?.focus());
    key("d", "Word differences on and off", () => { me.diff = !me.diff; keep.set("diff", me.diff); draw(); });
    key("h", "Divergence of the tokens on and off, after the verdict", () => { if (!me.item.unsealed?.heat.length) return false; me.heat = !me.heat; draw(); });
    key("z", "Picture in full screen", () => zoom.fullScreen());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && visible() && me.item && !document.querySelector("dialog[open]")) { event.preventDefault(); submit(); }
      if (event.key === "Escape" && document.activeElement?.classList.contains("dt-review-note")) document.activeElement.blur();
    });

    /* ---- drawing ---- */
    function draw() {
      const focused = document.activeElement?.dataset?.focus;
      if (review.mayReview === null) { fill(element, el("p", { class: "dt-pulse" }, "Looking…")); return; }
      if (!review.mayReview) { fill(element, el("p", { class: "dt-empty" }, d.askToSignIn("review"))); return; }
      if (!review.reviewer) { fill(element, nameForm()); return; }
      if (!me.item) { fill(element, head(), el("div", { class: "dt-review-trouble", role: "alert" }), el("p", { class: "dt-empty" }, waitingWords()), offer()); return; }
      const item = me.item;
      drawPicture(item);
      fill(element, head(), el("div", { class: "dt-review-trouble", role: "alert" }), opened(item),
        el("div", { class: `dt-review-grid ${item.images.length ? "" : "dt-no-picture"}`, "data-item": item.item_id },
          item.images.length ? el("div", { class: "dt-review-picture" }, stage, zoom.tools, strip(item)) : null,
          el("div", { class: "dt-review-text" },
            el("p", { class: "dt-review-prompt" }, item.prompt),
            item.reference !== null ? el("p", { class: "dt-soft" }, "Right answer: ", el("span", { class: "dt-reference" }, item.reference)) : null,
            answers(item), verdicts(), claimList(), noteBox(),
            el("div", { class: "dt-form-actions" }, el("button", { class: "dt-btn dt-primary", type: "button", "data-focus": "save", onclick: submit }, item.verdict ? "Save the change" : "Save and next", " ", el("kbd", {}, "Enter"))))));
      if (focused) element.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    }
    function waitingWords() {
      if (me.key) return "Looking for the next item…";
      if (!review.batch) return "There is no batch yet. Make one, or wait until the one that comes with Diptych is stored.";
      const p = counts();
      if (!me.done) return "Choose a batch.";
      if (review.order === "conflicts") return p?.conflicts ? "Nothing is left for you to settle: the conflicts that remain are your own, or other reviewers hold them." : "There is no conflict to settle.";
      if (p?.open) return "Nothing is left for you: the rest waits for other reviewers, or your filter leaves it out.";
      if (!p || p.answered + p.failed >= p.items) return p?.conflicts ? "Nothing is left to review but what two reviewers judged differently; a third decides." : "Nothing is left to review in this batch. The report has what was found.";
      return review.progress.state === "STOPPED" ? "Nothing to judge: the batch stands still before all questions were asked. Its owner can resume it." : "Nothing to judge right now: the engines still answer the rest. What they have answered comes here by itself.";
    }
    /** To somebody who has nothing at hand: the other line. */
    function offer() {
      if (me.key || !me.done || (review.order === "conflicts" ? !counts()?.open : !(counts()?.conflicts > me.ownConflicts))) return null;
      const next = review.order === "conflicts" ? "divergence" : "conflicts";
      return el("p", { class: "dt-form-actions" }, button(next === "conflicts" ? "Settle the conflicts of others" : "Judge the other items", () => { review.order = next; keep.set("order", next); review.changed("queue"); }, "offer"));
    }
    function countWords() {
      const p = counts(), missing = p ? p.items - p.answered - p.failed : 0;
      return p ? `${me.judged.length} by you · ${p.open} left of ${p.items}${p.conflicts ? ` · ${p.conflicts} in conflict` : ""}${p.failed ? ` · ${p.failed} failed` : ""}${missing ? ` · ${missing} ${review.progress.state === "RUNNING" ? "being answered" : "not asked"}` : ""}` : "";
    }
    function head() {
      return el("header", { class: "dt-review-head" },
        el("h2", {}, me.batch ? me.batch.name : "Review"),
        counts() ? el("span", { class: "dt-soft dt-review-count" }, countWords()) : null,
        el("span", { class: "dt-head-actions" }, button("Back", () => move(-1), "back"), me.item ? button(me.item.verdict ? "Forward" : "Skip", () => move(1), "skip") : button("Look again", () => send("next", {}), "again"), button("Undo", () => send("undo", {}), "undo")));
    }
    function nameForm() {
      const input = el("input", { maxlength: 80, autocomplete: "nickname", "aria-label": "Your name" });
      return el("form", { class: "dt-card dt-review-name", onsubmit: (event) => { event.preventDefault(); const name = input.value.trim(); if (!name) return; review.name = name; keep.set("reviewer", name); review.changed("who"); } },
        el("h2", {}, "Who reviews?"), el("p", { class: "dt-soft" }, "Verdicts are stored under a name. Sides are drawn for each name and stay hidden until the verdict."),
        el("label", { class: "dt-field" }, el("span", {}, "Your name"), input), el("button", { class: "dt-btn dt-primary", type: "submit" }, "Begin"));
    }
    function strip(item) {
      return item.images.length < 2 ? null : el("div", { class: "dt-strip" }, item.images.map((image, i) => el("button", { type: "button", class: i === shownImage ? "dt-on" : "", "aria-label": `Picture ${i + 1}`, onclick: () => { shownImage = i; draw(); } }, el("img", { src: image.url, alt: "" }))));
    }
    function drawPicture(item) {
      const image = item.images[shownImage];
      stage.classList.toggle("dt-has-picture", !!image);
      if (!image) return;
      if (picture.getAttribute("src") !== image.url) { picture.src = image.url; picture.alt = image.name; zoom.fit(); }
      stage.style.aspectRatio = `${image.width} / ${image.height}`;
      fill(boxes, me.draft.claims.filter((c) => c.box && c.box.image === shownImage).map((c) => el("i", { title: words(c.error_type), style: `left:${100 * c.box.x / image.width}%;top:${100 * c.box.y / image.height}%;width:${100 * c.box.width / image.width}%;height:${100 * c.box.height / image.height}%` })));
    }
    function answers(item) {
      const [a, b] = [item.answers.a.text, item.answers.b.text];
      const pieces = me.diff && a !== b ? diff(a, b) : null;
      return el("div", { class: "dt-review-answers" }, ["a", "b"].map((side) => {
        const state = me.draft[`${side}_right`], name = side.toUpperCase();
        const base = me.item.unsealed && (side === "a") === (me.item.unsealed.a_is === "base");
        return el("section", { class: `dt-review-answer ${me.draft.verdict === side ? "dt-chosen" : ""}`, "aria-label": `Answer ${name}`, "data-side": side },
          el("h3", {}, name, me.item.unsealed ? el("span", { class: `dt-chip ${base ? "dt-is-base" : "dt-is-cand"}` }, base ? `base · ${me.item.unsealed.base}` : `candidate · ${me.item.unsealed.candidate}`) : null),
          el("p", { class: "dt-review-words", dir: "auto" }, me.heat && base ? heat(me.item.unsealed.heat) : pieces ? pieces[side] : item.answers[side].text || el("span", { class: "dt-soft" }, "(empty)")),
          el("button", { class: `dt-btn dt-small dt-right-${state}`, type: "button", "aria-pressed": String(state === true), "data-focus": `right-${side}`, onclick: () => right(side) },
            state === null ? `${name} right?` : state ? `${name} is right` : `${name} is wrong`, " ", el("kbd", {}, side)));
      }), pieces || a !== b ? null : el("p", { class: "dt-soft dt-wide" }, "Both answers are the same, to the letter."));
    }
    function heat(tokens) {
      return tokens.map(([text, kl]) => el("span", { class: kl === null ? "dt-lx" : `dt-l${HEAT.filter((edge) => kl >= edge).length}`, title: kl === null ? "not known" : `${kl.toPrecision(3)} nats` }, d.inLine(text)));
    }
    function verdicts() {
      return el("div", { class: "dt-verdicts", role: "group", "aria-label": "Verdict" }, CHOICES.map(([name, verdict, label]) =>
        el("button", { class: `dt-btn ${me.draft.verdict === verdict ? "dt-primary" : ""}`, type: "button", "aria-pressed": String(me.draft.verdict === verdict), "data-focus": `v-${verdict}`, onclick: () => choose(verdict) }, label, " ", el("kbd", {}, name))));
    }
    function opened(item) {
      const u = item.unsealed;
      if (!u) return null;
      const far = u.divergence_nats === null ? "divergence not measured" : `divergence ${u.divergence_nats.toPrecision(3)} nats`;
      return el("p", { class: "dt-alarm dt-unsealed" }, el("b", {}, OUTCOMES[u.outcome]), ` · A was the ${u.a_is} · ${far} · `, el("a", { href: `?trace=${encodeURIComponent(u.trace)}` }, "Open in Compare"),
        u.heat.length ? [" · ", el("button", { class: "dt-link", type: "button", onclick: () => { me.heat = !me.heat; draw(); } }, me.heat ? "Hide the divergence" : "Show the divergence (h)")] : null);
    }
    function noteBox() {
      const note = el("textarea", { class: "dt-review-note", rows: 1, maxlength: 10000, placeholder: "Note (m)", "aria-label": "Note", "data-focus": "note", oninput: () => { me.draft.note = note.value; save(); } });
      note.value = me.draft.note;
      return note;
    }
    function claimList() {
      return el("div", { class: "dt-claims" }, me.draft.claims.map((claim, i) => el("p", {}, el("b", {}, claim.other_too ? "Both" : claim.answer.toUpperCase()), ` ${words(claim.error_type)}, ${claim.severity}`, claim.text ? [" “", el("span", {}, claim.text), "”"] : null, claim.box ? " · box" : "", claim.note ? ` · ${claim.note}` : "", " ",
        el("button", { class: "dt-link", type: "button", onclick: () => { me.draft.claims.splice(i, 1); save(); draw(); } }, "Remove"))),
        el("button", { class: "dt-btn dt-small", type: "button", "data-focus": "claim", onclick: () => claimSheet() }, "Say what is wrong ", el("kbd", {}, "e")));
    }
    /** Which answer a claim is likely about: the only one said to be wrong, else the one that is not better. */
    function worse() {
      const wrong = ["a", "b"].filter((side) => me.draft[`${side}_right`] === false);
      return wrong.length === 1 ? wrong[0] : me.draft.verdict === "a" ? "b" : "a";
    }
    function claimSheet() {
      const item = me.item, image = item.images[shownImage];
      const chosen = selectionIn(element);
      d.reviewClaim({ item, image, imageIndex: shownImage, chosen, likely: worse(), differing: diff(item.answers.a.text, item.answers.b.text), done: (claim) => { me.draft.claims.push(claim); save(); draw(); } });
    }
  };
  function words(name) { return name.replaceAll("_", " "); }
  review.words = words;

  /** The words a person has selected in one of the answers: {side, text}. */
  function selectionIn(element) {
    const selection = window.getSelection();
    const text = selection?.toString().trim();
    const side = text && selection.anchorNode?.parentElement?.closest("[data-side]");
    return side && element.contains(side) ? { side: side.dataset.side, text } : null;
  }

  /** Longest common words of two answers; what only one has is marked. {a: nodes, b: nodes, only: {a: text, b: text}} */
  function diff(a, b) {
    const split = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || [];
    const [x, y] = [split(a), split(b)];
    if (x.length > MAX_DIFF || y.length > MAX_DIFF) return { a: [a], b: [b], only: { a: "", b: "" } };
    const width = y.length + 1, table = new Uint16Array((x.length + 1) * width);
    for (let i = x.length - 1; i >= 0; i--) for (let j = y.length - 1; j >= 0; j--)
      table[i * width + j] = x[i] === y[j] ? table[(i + 1) * width + j + 1] + 1 : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    const out = { a: [], b: [] };
    const put = (side, text, isOnly) => { const last = out[side][out[side].length - 1]; if (last && last.isOnly === isOnly) last.text += text; else out[side].push({ text, isOnly }); };
    let i = 0, j = 0;
    while (i < x.length || j < y.length) {
      if (i < x.length && j < y.length && x[i] === y[j]) { put("a", x[i++], false); put("b", y[j++], false); }
      else if (j >= y.length || (i < x.length && table[(i + 1) * width + j] >= table[i * width + j + 1])) put("a", x[i++], true);
      else put("b", y[j++], true);
    }
    const nodes = (side) => out[side].map((piece) => (piece.isOnly ? el("mark", { class: "dt-differs" }, piece.text) : piece.text));
    const first = (side) => out[side].find((piece) => piece.isOnly)?.text.trim() || "";
    return { a: nodes("a"), b: nodes("b"), only: { a: first("a"), b: first("b") } };
  }
})();
