/* Left of the Review tab: batches, what comes first, the form for a new batch; and the sheet for a claim. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, button, fill } = d;
  const review = d.review;
  const ORDERS = [["divergence", "Most divergent first"], ["disagreement", "Most different answers first"], ["random", "Random"], ["conflicts", "Conflicts of others"]];
  const ERRORS = ["misread_text", "wrong_count", "wrong_attribute", "invented_object", "missed_object", "spatial", "refusal", "format_or_loop", "language", "other"];
  const SEVERITIES = ["minor", "major", "critical"];

  const many = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
  const field = (label, control, small) => el("label", { class: "dt-field" }, el("span", {}, label), control, small ? el("small", { class: "dt-soft" }, small) : null);
  const select = (options, value, label) => { const node = el("select", { "aria-label": label }, options.map(([v, text]) => el("option", { value: v }, text))); node.value = value; return node; };

  window.diptych.reviewSide = function (element, props, trigger, watch) {
    let value = { batches: [] }, drawn = "", sheet = null, counted = "";
    d.bind(props, watch, (next) => {
      value = next;
      const before = `${review.user}/${review.mayReview}`;
      Object.assign(review, { user: next.user || null, isOwner: !!next.is_owner, mayReview: next.may_review ?? null });
      const known = (next.batches || []).map((b) => b.id);
      const first = (next.batches || []).find((b) => b.progress.open) || (next.batches || [])[0];
      if (first && !known.includes(review.batch)) { review.batch = first.id; review.changed("batch"); }
      else if (before !== `${review.user}/${review.mayReview}`) review.changed("who");
      const mine = (next.batches || []).find((b) => b.id === review.batch), news = JSON.stringify(mine);
      // The desk's own counts come with every verdict; what comes here is newer only when it says something else.
      if (mine && news !== counted) { counted = news; review.progress = { batch: mine.id, state: mine.state, counts: mine.progress }; review.changed("progress"); }
      if (next.form) openForm(next.form);
      if (sheet && (next.looked || next.created || next.refused)) sheet.answer(next);
      else if (next.refused) d.toast(next.refused.message);
      draw();
    });
    review.listeners.push((what) => { if (["who", "progress", "queue"].includes(what)) draw(); });

    function draw() {
      const key = JSON.stringify([value, review.batch, review.reviewer, review.mode, review.progress, review.order]);
      if (key === drawn) return;
      if (element.contains(document.activeElement) && ["INPUT", "SELECT"].includes(document.activeElement.tagName)) { setTimeout(draw, 1000); return; }
      drawn = key;
      fill(element, modes(), review.mayReview && review.reviewer ? el("p", { class: "dt-soft dt-who" }, `Reviewing as ${review.reviewer} `, review.user ? null : el("button", { class: "dt-link", type: "button", onclick: () => { review.name = ""; review.keep.drop("reviewer"); review.changed("who"); } }, "Change")) : null,
        el("h3", {}, "Batches"), (value.batches || []).map(line), value.batches?.length ? null : el("p", { class: "dt-soft" }, value.batches ? "None yet." : "Looking…"),
        review.isOwner && !d.recorded ? button("New batch", () => trigger("form", {})) : null, review.mayReview ? queue() : null);
    }
    function modes() {
      const all = [["judge", "Judge"], ["report", "Report"], ...(review.isOwner ? [["items", "Items"]] : [])];
      return el("div", { class: "dt-switch dt-modes", role: "group", "aria-label": "What to see" }, all.map(([mode, label]) => el("button", { class: "dt-link", type: "button", "aria-pressed": String(review.mode === mode), onclick: () => see(mode) }, label)));
    }
    function line(batch) {
      const p = review.progress?.batch === batch.id ? review.progress.counts : batch.progress, working = batch.state === "RUNNING";
      return el("article", { class: `dt-batch ${batch.id === review.batch ? "dt-on" : ""}`, "data-batch": batch.id, "data-state": batch.state },
        el("button", { class: "dt-batch-name", type: "button", "aria-pressed": String(batch.id === review.batch), onclick: () => choose(batch.id) }, batch.name),
        el("p", { class: "dt-soft" }, working ? `${p.answered} of ${p.items} answered` : `${many(p.items, "item")}, ${p.open} left${p.conflicts ? `, ${p.conflicts} in conflict` : ""}${p.answered + p.failed < p.items ? `, ${p.items - p.answered - p.failed} not asked` : ""}`, p.failed ? `, ${p.failed} failed` : ""),
        working ? el("progress", { max: p.items, value: p.answered + p.failed, "aria-label": "Answered" }) : null,
        batch.message ? el("p", { class: "dt-fault" }, batch.message) : null,
        review.isOwner && !d.recorded ? el("p", { class: "dt-small-actions" }, working ? act("Stop", "stop", batch) : null, batch.state === "STOPPED" ? act("Resume", "resume", batch) : null, p.failed && !working ? act("Ask the failed again", "retry", batch) : null, p.failed ? d.link("Show them", () => showFailed(batch)) : null) : null);
    }
    function showFailed(batch) { choose(batch.id); review.find = { outcome: "failed" }; see("items"); }
    function choose(id) { if (id === review.batch) return; review.batch = id; review.keep.set("batch", id); review.changed("batch"); drawn = ""; draw(); }
    function see(mode) { review.mode = mode; review.changed("mode"); drawn = ""; draw(); }
    function act(label, action, batch) { return el("button", { class: "dt-link", type: "button", onclick: () => trigger("act", { action, batch: batch.id }) }, label); }
    function queue() {
      const order = select(ORDERS, review.order, "Order"), f = review.filter;
      const text = el("input", { value: f.text || "", "aria-label": "Text" }), tag = el("input", { value: f.tag || "", "aria-label": "Tag" });
      const low = el("input", { inputmode: "decimal", value: f.min_nats ?? "", "aria-label": "Divergence from" }), high = el("input", { inputmode: "decimal", value: f.max_nats ?? "", "aria-label": "Divergence to" });
      const differ = el("input", { type: "checkbox", checked: !!f.different_only });
      const set = () => {
        review.order = order.value;
        review.filter = Object.fromEntries(Object.entries({ text: text.value.trim(), tag: tag.value.trim(), min_nats: low.value.trim(), max_nats: high.value.trim(), different_only: differ.checked }).filter(([, v]) => v));
        review.keep.set("order", review.order); review.keep.set("filter", review.filter);
        review.changed("queue");
      };
      for (const control of [order, text, tag, low, high, differ]) control.addEventListener("change", set);
      const filtered = Object.keys(f).length > 0;
      return el("div", { class: "dt-queue" }, el("h3", {}, "What comes next"), field("Order", order, review.order === "conflicts" ? "Items that two reviewers judged differently, blind as ever: what you say decides." : "Every fifth item is a random one; one in twenty comes again with its sides swapped."),
        el("details", { class: "dt-more", open: filtered }, el("summary", {}, "Only some items"), el("label", { class: "dt-check-line" }, differ, " Only different answers"), field("Holds the words", text), field("Tag", tag), el("div", { class: "dt-fields" }, field("From, nats", low), field("To, nats", high))));
    }

    /* ---- a new batch ---- */
    function openForm(form) {
      if (sheet) return;
      let token = "", key = null, pair = form.pairs[0], uploading = 0;
      const name = el("input", { maxlength: 120, "aria-label": "Name" }), folder = el("input", { "aria-label": "Folder on this machine", placeholder: "/data/pictures" });
      const files = el("input", { type: "file", multiple: true, accept: ".zip,.csv,.jsonl,.parquet,.png,.jpg,.jpeg,.webp", "aria-label": "Files" });
      const hub = el("input", { "aria-label": "Data set of the hub", placeholder: "owner/name:data/validation-*.parquet" });
      const prompts = el("textarea", { rows: 3, "aria-label": "Prompts", placeholder: "One a line; each is asked of every picture" });
      const pairs = select(form.pairs.map((p) => [p.id, p.title]), pair.id, "Pair");
      const candidates = el("div", { class: "dt-candidates" }), tokens = el("input", { inputmode: "numeric", "aria-label": "Max tokens" }), overlap = el("input", { inputmode: "numeric", value: "0", "aria-label": "Overlap" });
      const said = el("div", { class: "dt-form-said", role: "status" });
      const showPair = () => { pair = form.pairs.find((p) => p.id === pairs.value); tokens.value = pair.max_tokens; fill(candidates, pair.candidates.map((c, i) => el("label", { class: "dt-check-line" }, el("input", { type: "checkbox", value: c.id, checked: i === 0 }), ` ${c.label}`))); };
      pairs.addEventListener("change", showPair); showPair();
      files.addEventListener("change", async () => {
        token = "";
        for (const file of files.files) {
          uploading += 1; fill(said, el("p", { class: "dt-pulse" }, `Loading ${file.name}…`));
          try {
            const answer = await fetch(`review/upload?name=${encodeURIComponent(file.name)}&token=${token}`, { method: "POST", body: file });
            const told = await answer.json();
            if (!answer.ok) throw new Error(told.error?.message || String(answer.status));
            token = told.token;
            fill(said, el("p", { class: "dt-soft" }, `${file.name} is loaded.`));
          } catch (fault) { fill(said, el("p", { class: "dt-fault", role: "alert" }, `${file.name} could not be loaded: ${fault.message}`)); }
          uploading -= 1;
        }
      });
      const send = (onlyLook) => {
        if (uploading) return;
        key = d.randomKey();
        fill(said, el("p", { class: "dt-pulse" }, onlyLook ? "Looking at the rows…" : "Reading every picture…"));
        trigger("create", { key, only_look: onlyLook, name: name.value, upload: token, folder: folder.value, hub: hub.value, prompts: prompts.value, base: pair.base, candidates: [...candidates.querySelectorAll("input:checked")].map((c) => c.value), max_tokens: tokens.value, overlap: Number(overlap.value || 0) / 100 });
      };
      const dialog = d.openSheet("New batch", el("div", { class: "dt-batch-form" },
        field("Name", name), field("Files", files, "A zip, a CSV, JSONL or Parquet with its pictures, or pictures alone. Columns: id, image, prompt, reference, tags."),
        field("Or a folder on this machine", folder), field("Or a data set of the hub", hub, "Its CSV, JSONL, Parquet, zip and picture files; no script of it is run."), field("Prompts", prompts, "For pictures without a table, or rows without a prompt."),
        field("Pair", pairs), el("div", { class: "dt-field" }, el("span", {}, "Candidates"), candidates),
        el("div", { class: "dt-fields" }, field("Max tokens", tokens), field("Judged by two, %", overlap)),
        el("div", { class: "dt-form-actions" }, button("Check the rows", () => send(true)), button("Start", () => send(false), null, "dt-primary")), said));
      dialog.addEventListener("close", () => { sheet = null; });
      sheet = { answer: (next) => {
        if (next.key && next.key !== key) return;
        if (next.refused) { fill(said, el("p", { class: "dt-fault", role: "alert" }, el("b", {}, next.refused.message), ` ${next.refused.hint || ""}`)); return; }
        const found = next.created || next.looked;
        const faults = found.faults.map((f) => el("li", {}, el("b", {}, f.row), ` ${f.field}: ${f.message}`));
        fill(said, el("p", {}, `${many(found.questions, "question")}, ${many(found.items, "item")}${next.created ? ": the engines are at work." : " can be used."}`), faults.length ? [el("p", { class: "dt-fault" }, `${many(found.faults.length + found.more_faults, "row")} can't be used:`), el("ul", { class: "dt-faults" }, faults)] : null);
        said.scrollIntoView({ block: "nearest" });
        if (next.created) { review.batch = next.created.batch; review.keep.set("batch", review.batch); review.changed("batch"); drawn = ""; draw(); if (!faults.length) dialog.close(); }
      } };
    }
  };

  /** The sheet for one claim: everything in it can be reached by keyboard; the box is drawn by mouse or typed. */
  d.reviewClaim = function ({ item, image, imageIndex, chosen, likely, differing, done }) {
    const side = select([["a", "Answer A"], ["b", "Answer B"]], chosen?.side || likely, "Which answer");
    const type = select(ERRORS.map((e) => [e, review.words(e)]), ERRORS[0], "Kind of error"), severity = select(SEVERITIES.map((s) => [s, s]), "major", "Severity");
    const text = el("input", { maxlength: 2000, "aria-label": "Words in the answer" }), note = el("input", { maxlength: 10000, "aria-label": "Note of the claim" });
    const other = el("input", { type: "checkbox" }), trouble = el("p", { class: "dt-fault", role: "alert" });
    text.value = chosen?.text || differing.only[side.value];
    side.addEventListener("change", () => { text.value = differing.only[side.value]; });
    const numbers = ["x", "y", "width", "height"].map((name) => el("input", { inputmode: "numeric", "aria-label": `Box ${name}, pixels`, placeholder: name }));
    const frame = el("i", { hidden: true }), canvas = image ? el("div", { class: "dt-boxing", "aria-hidden": "true" }, el("img", { src: image.url, alt: "", draggable: "false" }), frame) : null;
    const showBox = () => {
      const [x, y, w, h] = numbers.map((n) => Number(n.value));
      frame.hidden = !(w > 0 && h > 0);
      frame.style.cssText = `left:${100 * x / image.width}%;top:${100 * y / image.height}%;width:${100 * w / image.width}%;height:${100 * h / image.height}%`;
    };
    numbers.forEach((n) => n.addEventListener("input", showBox));
    canvas?.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      const box = canvas.getBoundingClientRect(), at = (e) => [Math.min(Math.max((e.clientX - box.left) / box.width, 0), 1) * image.width, Math.min(Math.max((e.clientY - box.top) / box.height, 0), 1) * image.height];
      const from = at(event);
      const move = (e) => { const to = at(e); [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.abs(from[0] - to[0]), Math.abs(from[1] - to[1])].forEach((v, i) => { numbers[i].value = Math.round(v); }); showBox(); };
      canvas.addEventListener("pointermove", move);
      canvas.addEventListener("pointerup", () => canvas.removeEventListener("pointermove", move), { once: true });
    });
    const form = el("form", { class: "dt-claim-form", onkeydown: (event) => { if (event.key === "Enter" && event.target.tagName === "SELECT") { event.preventDefault(); form.requestSubmit(); } }, onsubmit: (event) => {
      event.preventDefault();
      const answer = item.answers[side.value].text, start = text.value ? answer.indexOf(text.value) : -1;
      if (text.value && start < 0) { trouble.textContent = "These words don't stand in that answer. Copy them from it, or leave the field empty."; return; }
      const [x, y, width, height] = numbers.map((n) => Number(n.value));
      if (image && numbers.some((n) => n.value) && !(x >= 0 && y >= 0 && width > 0 && height > 0 && x + width <= image.width + 1 && y + height <= image.height + 1)) { trouble.textContent = `The box must lie in the picture, ${image.width} × ${image.height} pixels.`; return; }
      const box = image && width > 0 && height > 0 ? { image: imageIndex, x, y, width, height } : null;
      done({ answer: side.value, error_type: type.value, severity: severity.value, text: text.value, start: start < 0 ? null : start, other_too: other.checked, note: note.value, box });
      sheet.close();
    } },
      field("Which answer", side), field("Kind of error", type), field("Severity", severity), field("Words in the answer", text, "Empty means the whole answer."),
      el("label", { class: "dt-check-line" }, other, " The other answer has it too"), field("Note", note),
      image ? el("div", { class: "dt-field" }, el("span", {}, "Where in the picture: drag, or type pixels; optional"), canvas, el("div", { class: "dt-box-numbers" }, numbers.map((input) => el("label", {}, input.placeholder, input)))) : null, trouble,
      el("div", { class: "dt-form-actions" }, el("button", { class: "dt-btn dt-primary", type: "submit" }, "Add"), el("span", { class: "dt-soft" }, "Enter")));
    const sheet = d.openSheet("What is wrong", form);
    type.focus();
  };
})();
