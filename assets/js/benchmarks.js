/* The Benchmarks tab: a form that starts a job; verdicts, tables and the model card of what was measured.
   Values from Python: components/benchmark/view_model.py. Charts: benchmark_charts.js. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, fill } = d;
  const DRAFT = "diptych.benchmark";
  const FIELDS = [["text_file", "Text of your own", "/folder/text.txt", "UTF-8; instead of the text that comes with Diptych"],
    ["chunks", "Chunks", "", "Of the text, from its beginning; more is surer and takes longer"],
    ["items_file", "Items of your own", "/folder/rows.jsonl", "Lines of {messages, answers, images, metric}"],
    ["items", "Items", "", "Questions asked of both models; of each task"],
    ["vision_sets", "Published sets", "chartqa, mmmu", "vqav2, docvqa, chartqa, mathvista, mmmu; from the hub"],
    ["lm_eval", "Text tasks of lm-eval", "mmlu, mgsm_native_cot_en", "Names; diptych_choices and diptych_sums come with Diptych, others from the hub"],
    ["requests", "Requests", "", "Of each use case and level in one round"],
    ["output_tokens", "Output tokens", "", "Length of the answers under load"],
    ["usd_per_hour", "USD per hour", "", "Of one device; without it there is no cost"]];
  const NUMBERS = ["chunks", "items", "requests", "output_tokens", "usd_per_hour"];
  const LISTS = ["vision_sets", "lm_eval"];
  const OUTCOMES = { pass: "dt-ok", warn: "dt-warn", fail: "dt-bad", "not enough data": "" };
  const SUITES = { quality: "Quality", accuracy: "Accuracy", throughput: "Throughput", rates: "Request rate", cost: "Cost" };

  window.diptych.benchmarkForm = function (element, props, trigger, watch) {
    let value = {}, waiting = "", draft = { model: "", suite: "all", convention: "llama.cpp-512", text: "auto", fields: {} };
    try { draft = { ...draft, ...JSON.parse(sessionStorage.getItem(DRAFT) || "{}") }; } catch { /* a draft is a courtesy */ }
    const keep = () => { try { sessionStorage.setItem(DRAFT, JSON.stringify(draft)); } catch { /* private mode */ } };
    d.bind(props, watch, (next) => { value = next; if (next.key === waiting) waiting = ""; draw(); });

    function draw() {
      const models = value.models || [];
      if (!models.some((m) => m.id === draft.model)) draft.model = models.some((m) => m.id === value.default) ? value.default : models[0]?.id || "";
      const open = element.querySelector(".dt-changes")?.open;
      if (!models.length) { fill(element, el("h2", {}, "New benchmark"), el("p", { class: "dt-soft" }, "There is no candidate whose engine runs here. Make one on the Quantize tab.")); return; }
      if (d.recorded) { fill(element, el("p", { class: "dt-sentence dt-soft" }, "Nothing is measured here: these are the figures that were published, or measured before.")); return; }
      fill(element, el("h2", {}, "New benchmark"),
        labelled("Candidate", select("Candidate", models.map((m) => [m.id, m.label]), draft.model, (v) => { draft.model = v; keep(); })),
        labelled("Suite", select("Suite", (value.suites || []).map((s) => [s.id, s.label]), draft.suite, (v) => { draft.suite = v; keep(); })),
        el("details", { class: "dt-more dt-changes", open }, el("summary", {}, "Change what is measured"),
          el("div", { class: "dt-fields" },
            labelled("Convention of the text", select("Convention of the text", (value.conventions || []).map((c) => [c.id, c.id]), draft.convention, (v) => { draft.convention = v; keep(); draw(); }),
              (value.conventions || []).find((c) => c.id === draft.convention)?.label, true),
            labelled("Text", select("Text", [["auto", "The one that comes with Diptych"], ["wikitext-2", "WikiText-2, from the hub"]], draft.text, (v) => { draft.text = v; keep(); }), "", true),
            FIELDS.map(([name, label, placeholder, help]) => labelled(label, input(label, draft.fields[name] || "", placeholder, NUMBERS.includes(name), (v) => { draft.fields[name] = v; keep(); }), help, name.endsWith("_file"))))),
        value.refused ? el("p", { class: "dt-fault", role: "alert" }, value.refused) : null,
        value.started && !value.refused ? el("p", { class: "dt-soft", role: "status" }, "Queued. It runs on when you close the page.") : null,
        value.may_control ? el("div", { class: "dt-form-actions" }, el("button", { class: "dt-btn dt-primary", type: "button", disabled: waiting !== "", onclick: start }, "Start"),
          el("span", { class: "dt-soft" }, "Starts engines of its own, one pair at a time."))
          : el("p", { class: "dt-soft" }, d.askToSignIn("start jobs")));
    }
    function start() {
      const overrides = { convention: draft.convention, text: draft.text };
      for (const [name, text] of Object.entries(draft.fields)) {
        if (!text.trim()) continue;
        const number = NUMBERS.includes(name) && !Number.isNaN(Number(text));
        overrides[name] = number ? Number(text) : LISTS.includes(name) ? text.split(/[\s,]+/).filter(Boolean) : text.trim();
      }
      waiting = d.randomKey();
      trigger("start", { key: waiting, model: draft.model, suite: draft.suite, overrides });
      draw();
    }
  };

  window.diptych.benchmarkResults = function (element, props, trigger, watch, server) {
    const folds = new Map();
    let value = {}, shown = "", chosen = "", reviewing = "";
    const saving = new Map();
    d.bind(props, watch, (next) => {
      value = next; draw();
      if (next.written && saving.has(next.written.key)) { saving.get(next.written.key)(next.written); saving.delete(next.written.key); }
      if (reviewing && next.reviewed?.key === reviewing) { reviewing = ""; d.showTab("Review"); d.toast("The batch is stored; its questions are asked in the background."); }
    });

    function draw() {
      const key = JSON.stringify([value, chosen]);
      if (key === shown) return;
      shown = key;
      const models = value.models || [];
      const model = models.find((m) => m.id === chosen) || models[models.length - 1];
      fill(element,
        models.length ? [el("div", { class: "dt-results-head" }, el("h2", {}, "Results"),
          models.length > 1 ? select("Measured candidate", models.map((m) => [m.id, m.label]), model.id, (v) => { chosen = v; draw(); }) : null,
          el("span", { class: "dt-head-actions" }, el("button", { class: "dt-btn dt-small", type: "button", onclick: () => showCard(model, server, value.may_control ? (parts, version) => new Promise((resolve) => { const key = d.randomKey(); saving.set(key, resolve); trigger("write", { key, model: model.id, parts, version }); }) : null) }, "Model card"))), result(model)]
          : [el("h2", {}, "Results"), el("p", { class: "dt-soft" }, d.recorded ? "Nothing was measured here yet; below are the published figures." : value.published ? "Nothing was measured yet. Choose a candidate and a suite, and start: every figure will stand here with its interval, beside those of the published cards." : "Reading the records…")],
        d.benchmarkCharts ? d.benchmarkCharts(value, model, (task) => showFlipped(model, task)) : null,
        published(value.published || []));
    }
    function result(model) {
      return el("section", { class: "dt-card dt-result", "data-model": model.id },
        el("div", { class: "dt-title" }, el("b", {}, model.label), el("span", { class: "dt-soft" }, `against ${model.base}`),
          el("span", { class: `dt-chip ${OUTCOMES[model.verdict.outcome]}`, "data-outcome": model.verdict.outcome }, model.verdict.outcome)),
        findings(model.verdict.findings.filter((f) => f.outcome !== "pass")),
        model.verdict.findings.some((f) => f.outcome === "pass") ? fold(`passed.${model.id}`, `${model.verdict.findings.filter((f) => f.outcome === "pass").length} limits are kept`, false, findings(model.verdict.findings.filter((f) => f.outcome === "pass"))) : null,
        model.tables.map(table),
        model.flipped.filter((f) => f.items.length).map((f) => el("p", {}, el("button", { class: "dt-btn dt-small", type: "button", onclick: () => showFlipped(model, f.task) }, `${f.items.length} item${f.items.length > 1 ? "s" : ""} that flipped on ${f.task}`))));
    }
    function findings(list) {
      return el("ul", { class: "dt-findings" }, list.map((f) => el("li", {}, el("span", { class: `dt-chip ${OUTCOMES[f.outcome]}` }, f.outcome), " ", f.sentence)));
    }
    /** Figures down and tasks across, or the other way round where there are many tasks. */
    function table(t) {
      const words = { class: "dt-table dt-figures" };
      if (t.rows.length > 5) return fold(`table.${t.suite}`, SUITES[t.suite], true, el("div", { class: "dt-scroll", tabindex: "0", role: "region", "aria-label": SUITES[t.suite] },
        el("table", words, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, ""), t.columns.map((name) => el("th", { scope: "col" }, name)))),
          el("tbody", {}, t.rows.map((row) => el("tr", {}, el("th", { scope: "row" }, row.task), row.cells.map(cell)))))));
      return fold(`table.${t.suite}`, SUITES[t.suite], true, el("div", { class: "dt-scroll", tabindex: "0", role: "region", "aria-label": SUITES[t.suite] },
        el("table", words, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, ""), t.rows.map((row) => el("th", { scope: "col" }, row.task)))),
          el("tbody", {}, t.columns.map((name, i) => el("tr", {}, el("th", { scope: "row" }, name), t.rows.map((row) => cell(row.cells[i]))))))));
    }
    function cell(c) {
      if (!c) return el("td", { class: "dt-soft" }, "–");
      const how = [c.how, c.n, c.note, `record ${c.id}`].filter(Boolean).join("; ");
      return el("td", { title: how }, c.value, c.interval ? el("small", {}, c.interval) : null, c.floor ? el("small", {}, `floor ${c.floor}`) : null);
    }
    function published(cards) {
      if (!cards.length) return null;
      return el("section", {}, el("h2", { class: "dt-history" }, "Published figures"),
        el("p", { class: "dt-soft" }, "As three model cards print them. A cell that the card's own figures contradict is marked with what they give."),
        cards.map((card) => fold(`published.${card.model}`, `${card.model} · ${card.scheme}${card.wrong ? ` · ${card.wrong} marked` : ""}`, false,
          el("div", { class: "dt-scroll", tabindex: "0", role: "region", "aria-label": card.model }, el("table", { class: "dt-table dt-figures" }, el("thead", {}, el("tr", {}, ["", "Figure", "Printed", "Recomputed"].map((h) => el("th", { scope: "col" }, h)))),
            el("tbody", {}, card.rows.map((row) => el("tr", { class: row.verified === false ? "dt-wrong" : null }, el("td", {}, row.task), el("td", {}, row.metric), el("td", {}, row.value),
              el("td", {}, row.recomputed === null ? "" : row.recomputed, row.verified === false ? el("small", {}, row.note || "does not follow") : null)))))))));
    }
    function showFlipped(model, task) {
      const found = (model.flipped || []).find((f) => task === f.task || task.startsWith(`${f.task}:`));
      if (!found) return;
      const kind = task.includes(": ") ? task.split(": ")[1] : "";
      const items = found.items.filter((item) => !kind || item.kind === kind);
      if (!items.length) { d.openSheet(`Items that flipped: ${task}`, el("p", { class: "dt-soft" }, "None of this kind flipped.")); return; }
      const review = el("button", { class: "dt-btn dt-small", type: "button", title: "All items of this list become a batch of the Review tab", onclick: () => {
        reviewing = d.randomKey(); review.disabled = true;
        trigger("review", { key: reviewing, model: model.id, task: found.task });
        sheet.close();
      } }, "Review these blind");
      const sheet = d.openSheet(`Items that flipped: ${task}`, el("div", { class: "dt-form-actions" }, review), items.map((item) => flip(model, found.task, item, () => sheet.close())));
    }
    /** One item; its pictures are fetched when it is seen. */
    function flip(model, task, item, close) {
      const pictures = el("div", { class: "dt-flip-pictures" }), trouble = el("p", { class: "dt-fault", role: "alert", hidden: true });
      let asked = null;
      const question = () => { asked = asked || server.question({ model: model.id, task, item: item.id }); return asked; };
      const compare = el("button", { class: "dt-btn dt-small", type: "button", onclick: async () => {
        compare.disabled = true;
        let given;
        try { given = await question(); } catch { given = { refused: "The question could not be fetched; try again." }; asked = null; }
        compare.disabled = false;
        if (given.refused) { trouble.hidden = false; trouble.textContent = given.refused; return; }
        close();
        d.askInCompare(given);
        if (given.other_messages) d.toast(`Only the last of its ${given.other_messages + 1} messages is asked.`);
      } }, "Compare");
      const node = el("article", { class: "dt-flip" }, (item.images || []).length ? pictures : null,
        el("div", {}, el("p", {}, el("span", { class: `dt-chip ${item.lost ? "dt-bad" : "dt-ok"}` }, item.lost ? "lost" : "won"), " ", el("b", {}, item.question), " ", el("span", { class: "dt-soft" }, `${item.kind} · ${item.id}`)),
          el("p", {}, el("span", { class: "dt-soft" }, "expected "), item.expected), el("p", {}, el("span", { class: "dt-soft" }, "base "), item.base), el("p", {}, el("span", { class: "dt-soft" }, "candidate "), item.candidate),
          el("p", {}, compare), trouble));
      if ((item.images || []).length) new IntersectionObserver((seen, observer) => {
        if (!seen.some((one) => one.isIntersecting)) return;
        observer.disconnect();
        question().then((given) => fill(pictures, (given.images || []).map((image) => el("img", { src: image.url, alt: "" }))), () => { asked = null; });
      }).observe(node);
      return node;
    }
    function fold(key, title, atFirst, content) {
      const node = el("details", { class: "dt-more", open: folds.has(key) ? folds.get(key) : atFirst }, el("summary", {}, title), content);
      node.addEventListener("toggle", () => folds.set(key, node.open));
      return node;
    }
  };

  const PARTS = [["summary", "Summary", "Instead of the profile's description"], ["intended_use", "Intended use and limitations", ""], ["calibration", "About the calibration data", ""], ["notes", "Further notes", ""], ["acknowledgments", "Acknowledgments", ""]];
  /** `save(parts, version)` → a promise of {refused} or {}; null for visitors. */
  async function showCard(model, server, save) {
    const text = el("pre", { class: "dt-log dt-card-text", tabindex: "0" }, "Writing the card…");
    const view = el("div", { class: "dt-card-view" }), missing = el("div", {}), actions = el("div", { class: "dt-form-actions" }), own = el("div", {});
    d.openSheet(`Model card of ${model.label}`, actions, missing, own, view, el("details", { class: "dt-more" }, el("summary", {}, "As Markdown"), text));
    await load();
    async function load() {
      try {
        const card = await server.card({ model: model.id });
        if (card.refused) { text.textContent = card.refused; return; }
        text.textContent = card.markdown;
        fill(view, d.renderMarkdown(card.markdown.replace(/^---[\s\S]*?\n---\n/, "")));
        fill(missing, el("p", { class: "dt-soft" }, card.missing.length ? `Listed as missing: ${card.missing.join("; ")}.` : "Nothing is missing."));
        fill(actions, el("button", { class: "dt-btn dt-small", type: "button", onclick: () => d.copyText(card.markdown) }, "Copy"),
          el("a", { class: "dt-btn dt-small", download: "README.md", href: URL.createObjectURL(new Blob([card.markdown], { type: "text/markdown" })) }, "Download"),
          save ? el("button", { class: "dt-btn dt-small", type: "button", onclick: () => edit(card.prose) }, "Edit the text") : null);
      } catch { text.textContent = "The card could not be written; try again."; }
    }
    function edit(prose) {
      const areas = PARTS.map(([name, label, help]) => [name, el("textarea", { rows: 3, maxlength: 8000, "aria-label": label, placeholder: help }, prose.parts[name] || "")]);
      const trouble = el("p", { class: "dt-fault", role: "alert", hidden: true });
      const store = el("button", { class: "dt-btn dt-primary", type: "button", onclick: async () => {
        store.disabled = true;
        const told = await save(Object.fromEntries(areas.map(([name, area]) => [name, area.value])), prose.version);
        store.disabled = false;
        if (told.refused) { trouble.hidden = false; trouble.textContent = told.refused; return; }
        fill(own); await load(); d.toast("Saved");
      } }, "Save");
      fill(own, el("div", { class: "dt-prose" }, el("p", { class: "dt-soft" }, `Markdown without headings and HTML. Figures come from records alone; earlier versions are kept${prose.version ? ` (this is version ${prose.version})` : ""}.`),
        PARTS.map(([, label], i) => el("label", { class: "dt-field dt-wide" }, el("span", {}, label), areas[i][1])), trouble,
        el("div", { class: "dt-form-actions" }, store, el("button", { class: "dt-btn", type: "button", onclick: () => fill(own) }, "Discard"))));
      areas[0][1].focus();
    }
  }

  function labelled(label, control, help, wide) { return el("label", { class: `dt-field ${wide ? "dt-wide" : ""}` }, el("span", {}, label), control, help ? el("small", { class: "dt-soft" }, help) : null); }
  function select(label, options, chosen, change) {
    const node = el("select", { "aria-label": label }, options.map(([id, text]) => el("option", { value: id, selected: id === chosen }, text)));
    node.addEventListener("change", () => change(node.value));
    return node;
  }
  function input(label, text, placeholder, numeric, change) {
    const node = el("input", { type: "text", "aria-label": label, value: text, placeholder, inputmode: numeric ? "decimal" : null });
    node.addEventListener("input", () => change(node.value));
    return node;
  }
})();
