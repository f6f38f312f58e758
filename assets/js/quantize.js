/* The Quantize tab's form: model, recipe, changes; and the plan that is shown before anything starts.
   Values from Python: components/quantize/form_view.py. What a person typed survives a reload of the page. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, button, fill } = d;
  const DRAFT = "diptych.quantize";
  const OTHER = "other";
  const SOURCES = [["", "As the recipe says"], ["bundled:embedded-pictures", "Pictures that come with Diptych"], ["bundled:embedded-text", "Short texts for the embedded pair"], ["bundled:text", "Texts that come with Diptych"], ["file", "A file or folder of mine"], ["traces", "Turns of this app, by id"]];
  const OWN = [["review", "Items of a review batch"], ["flips", "Benchmark items that a candidate lost"]]; // shown where there are some
  const empty = () => ({ model: "", other: "", recipe: "", changes: {}, source: "", where: "", yaml: "" });
  const shared = { redraw: null, trigger: null, draft: empty(), asked: "", asking: false, stale: false, own: [] };

  function remember() { try { sessionStorage.setItem(DRAFT, JSON.stringify(shared.draft)); } catch { /* private mode: a draft is a courtesy */ } }
  function recall() {
    try { shared.draft = { ...empty(), ...JSON.parse(sessionStorage.getItem(DRAFT) || "{}") }; } catch { shared.draft = empty(); }
  }
  function changed() { remember(); shared.stale = true; shared.mark?.(); }

  /** What the form asks for: {model, recipe, overrides, yaml}; overrides hold only what differs from the recipe. */
  function spec(recipe) {
    const draft = shared.draft, overrides = {};
    for (const field of recipe.fields) {
      const text = draft.changes[`${recipe.id}.${field.name}`];
      if (text === undefined || text === shownValue(field)) continue;
      let at = overrides;
      const names = field.name.split(".");
      for (const name of names.slice(0, -1)) at = at[name] = at[name] || {};
      at[names[names.length - 1]] = field.kind === "lines" ? text.split("\n").map((l) => l.trim()).filter(Boolean)
        : text.trim() === "" ? null : Number.isNaN(Number(text)) ? text : Number(text);
    }
    const source = sourceOf(draft);
    if (source && recipe.takes_data) overrides.calibration = { ...overrides.calibration, sources: [source] };
    return { model: draft.model === OTHER ? draft.other.trim() : draft.model, recipe: draft.recipe, overrides, yaml: draft.yaml };
  }
  function sourceOf(draft) {
    if (draft.source === "file") return { kind: "file", file: draft.where.trim() };
    if (draft.source === "traces") return { kind: "traces", trace_ids: draft.where.split(/[\s,]+/).filter(Boolean) };
    if (OWN.some(([kind]) => kind === draft.source)) return ownOf(draft.source).find((one) => one.label === draft.where)?.source || ownOf(draft.source)[0]?.source || null;
    return draft.source.startsWith("bundled:") ? { kind: "bundled", name: draft.source.slice(8) } : null;
  }
  function ownOf(kind) { return shared.own.filter((one) => one.source.kind === kind); }
  function shownValue(field) { return field.value === null || field.value === undefined ? "" : field.kind === "lines" ? field.value.join("\n") : String(field.value); }

  /* "Re-quantize with these": the turns become the recipe's calibration data; all else stays as it was last. The form may
     not be there yet: Gradio makes a tab's content when the tab is first opened. */
  window.diptych.requantize = function (turns) {
    recall();
    Object.assign(shared.draft, { source: "traces", where: turns.join("\n") });
    shared.open = true;
    changed();
    shared.redraw?.();
    d.showTab("Quantize");
  };

  window.diptych.quantize = function (element, props, trigger, watch) {
    shared.trigger = trigger;
    recall();
    let value = {};
    shared.redraw = draw;
    shared.mark = () => { const go = element.querySelector(".dt-check"); if (go) go.textContent = shared.stale || !shared.asked ? "Check" : "Check again"; markPlan(); };
    /* "Duplicate": the form begins with what a job was given. */
    d.fillQuantizeForm = (given) => {
      shared.draft = empty();
      const known = (value.models || []).some((m) => m.id === given.model);
      Object.assign(shared.draft, { model: known ? given.model : OTHER, other: known ? "" : given.model || "", recipe: given.recipe || "",
        yaml: Object.keys(given.overrides || {}).length ? JSON.stringify(given.overrides, null, 1) : "" });
      changed(); draw();
      element.scrollIntoView({ block: "start" });
      element.querySelector("select")?.focus();
    };
    d.bind(props, watch, (next) => { value = next; shared.own = next.own_data || []; draw(); });

    function draw() {
      const draft = shared.draft, recipes = value.recipes || [], models = value.models || [];
      if (!recipes.length) { fill(element, el("p", { class: "dt-soft" }, "There are no recipes: profiles/recipes holds none that can be read.")); return; }
      if (!models.some((m) => m.id === draft.model) && draft.model !== OTHER) draft.model = models.length ? models[0].id : OTHER;
      if (!recipes.some((r) => r.id === draft.recipe)) draft.recipe = (recipes.find((r) => r.id === "w4a16-gptq") || recipes[0]).id;
      const recipe = recipes.find((r) => r.id === draft.recipe);
      fill(element, el("h2", {}, "New job"),
        labelled("Model", select([...models.map((m) => [m.id, m.label]), [OTHER, "Another model…"]], draft.model, (v) => { draft.model = v; changed(); draw(); })),
        draft.model === OTHER ? labelled("Repository or folder", input("text", draft.other, "owner/name, or /folder/of/a/model", (v) => { draft.other = v; changed(); })) : null,
        labelled("Recipe", select(recipes.map((r) => [r.id, r.title]), draft.recipe, (v) => { draft.recipe = v; changed(); draw(); })),
        (value.problems || []).map((text) => el("p", { class: "dt-fault" }, text)),
        el("p", { class: "dt-soft dt-about" }, recipe.description),
        el("div", { class: "dt-chips" }, recipe.chips.map((text) => el("span", { class: "dt-chip" }, text))),
        recipe.differs.length ? el("details", { class: "dt-more" }, el("summary", {}, "How it differs from the card"), el("ul", {}, recipe.differs.map((text) => el("li", {}, text)))) : null,
        changes(recipe, draft),
        value.may_control ? el("div", { class: "dt-form-actions" }, el("button", { class: "dt-btn dt-primary dt-check", type: "button", onclick: () => check(recipe) }, shared.stale || !shared.asked ? "Check" : "Check again"),
          el("span", { class: "dt-soft" }, "Shows what it needs. Starts nothing."))
          : el("p", { class: "dt-soft" }, d.askToSignIn("start jobs")));
    }
    function changes(recipe, draft) {
      const open = shared.open || element.querySelector(".dt-changes")?.open;
      shared.open = false;
      const fields = recipe.fields.map((field) => {
        const key = `${recipe.id}.${field.name}`, now = draft.changes[key] ?? shownValue(field);
        const write = (v) => { if (v === shownValue(field)) delete draft.changes[key]; else draft.changes[key] = v; changed(); };
        return labelled(field.label, field.kind === "lines" ? area(now, Math.min(6, now.split("\n").length + 1), write) : input("text", now, "", write, "numeric"), field.help, field.kind === "lines");
      });
      const data = recipe.takes_data ? [
        labelled("Calibration data", select([...SOURCES, ...OWN.filter(([kind]) => kind === draft.source || ownOf(kind).length)], draft.source, (v) => { draft.source = v; draft.where = ""; changed(); draw(); }), draft.source ? "" : recipe.sources.join("; "), true),
        draft.source === "file" ? labelled("File or folder", input("text", draft.where, "/data/prompts.jsonl", (v) => { draft.where = v; changed(); }), ".jsonl, .txt, or a folder of them and pictures", true) : null,
        OWN.some(([kind]) => kind === draft.source) ? labelled("Which items", select(ownOf(draft.source).map((one) => [one.label, one.label]), draft.where, (v) => { draft.where = v; changed(); }), "Their questions and pictures, with the base's answers", true) : null,
        draft.source === "traces" ? labelled("Turns", area(draft.where, 3, (v) => { draft.where = v; changed(); }), "Ids, as in the address of a stored turn", true) : null] : [];
      return el("details", { class: "dt-more dt-changes", open }, el("summary", {}, "Change the recipe"),
        el("div", { class: "dt-fields" }, data, fields,
          labelled("Further settings", area(draft.yaml, 3, (v) => { draft.yaml = v; changed(); }), "Any field of the recipe, as YAML: block_size: 64", true)));
    }
    function check(recipe) {
      shared.asked = d.randomKey(); shared.asking = true; shared.stale = false; shared.spec = spec(recipe);
      trigger("plan", { key: shared.asked, ...shared.spec });
      shared.showPlan?.({ busy: true });
    }
  };

  let plan = null;
  function markPlan() { plan?.classList.toggle("dt-stale", shared.stale && !shared.asking); for (const go of plan?.querySelectorAll(".dt-start") || []) go.disabled = shared.stale || go.dataset.blocked === "1"; }

  window.diptych.quantizePlan = function (element, props, watch_trigger, watch) {
    plan = element;
    shared.showPlan = (value) => draw(value);
    d.bind(props, watch, (value) => {
      if (!value.key || value.key !== shared.asked) return;
      shared.asking = false;
      if (value.started) { started(value.started); return; }
      if (value.preview) { showPreview(value.preview); return; }
      draw(value);
      markPlan();
      if (window.innerWidth <= 900) element.scrollIntoView({ block: "start" }); // it stands below the form there
    });
    function started(jobId) {
      shared.asked = "";
      fill(element, el("p", { class: "dt-note dt-ok", role: "status" }, "Started. It goes on when you close this page."));
      document.querySelector(`[data-job="${jobId}"]`)?.scrollIntoView({ block: "nearest" });
    }
    /** The same plan, its time from a dry run of one layer. */
    function measure() {
      shared.asking = true;
      shared.trigger("plan", { key: shared.asked, measured: true, ...shared.spec });
      draw({ busy: "measure" });
    }
    function draw(value) {
      if (value.busy) { fill(element, card(el("p", { class: "dt-soft dt-pulse", role: "status" }, value.busy === "measure" ? "One layer goes through the real tool, to tell the time" : "Looking at the model, the disk and the memory"))); return; }
      if (value.refused) {
        const refused = value.refused;
        fill(element, card(el("h3", {}, "Not accepted"), el("p", { class: "dt-fault", role: "alert" }, el("b", {}, refused.field ? `${refused.field}: ` : "", refused.message), " ", refused.hint)));
        return;
      }
      const shown = value.plan;
      const begin = (label, stops) => el("button", { class: "dt-btn dt-small dt-primary dt-start", type: "button", disabled: !shown.can_start, "data-blocked": shown.can_start ? null : "1", onclick: () => {
        for (const node of plan.querySelectorAll(".dt-start")) node.disabled = true;
        shared.asking = true;
        shared.trigger("start", { key: shared.asked, ...shared.spec, stops });
      } }, label);
      const start = [begin(shown.stops.length ? "Start when there is room" : "Start", []), shown.stops.length ? begin(`Start, and stop ${shown.stops.join(", ")}`, shown.stops) : null];
      const toolIsThere = shown.preflight.some((item) => item.name === "Tool" && item.verdict === "ok"); // it is made by the first job
      const data = shown.takes_data ? button("Look at the calibration data", () => shared.trigger("preview", { key: shared.asked, ...shared.spec })) : null;
      fill(element, card(el("div", { class: "dt-title" }, el("h2", {}, "Plan"), el("span", { class: "dt-head-actions" }, data, shown.can_start && !shown.measured && toolIsThere ? button("Measure the time", measure) : null, start)),
        shown.can_start ? null : el("p", { class: "dt-fault" }, "It can't start here; what stands in the way is marked below."),
        shown.notes.map((text) => el("p", { class: "dt-alarm" }, text)),
        el("div", { class: "dt-plan-parts" },
          el("ul", { class: "dt-preflight" }, shown.preflight.map((item) => el("li", { class: `dt-${item.verdict}` }, el("span", { class: "dt-sign", role: "img", "aria-label": item.verdict }, item.sign), el("span", {}, el("b", {}, item.name), " ", item.sentence)))),
          el("div", {}, rows(shown.facts), el("h4", {}, "Stays in 16 bits"), shown.kept.length ? rows(shown.kept) : el("p", { class: "dt-soft" }, "Known when the model's files are here."),
            shown.changes.length ? [el("h4", {}, "Differs from the recipe"), rows(shown.changes.map(([name, before, after]) => [name, `${before} → ${after}`]))] : null)),
        el("details", { class: "dt-more" }, el("summary", {}, "The complete script"),
          el("p", { class: "dt-soft" }, `One file for ${shown.tool}; it runs without this app, with:`), el("pre", { class: "dt-log" }, shown.requirements.join("\n")),
          el("div", { class: "dt-actions" }, el("button", { class: "dt-link", type: "button", onclick: () => d.copyText(shown.script) }, "Copy"),
            el("button", { class: "dt-link", type: "button", onclick: () => save(shown.script, "quantize.py") }, "Download")),
          el("pre", { class: "dt-log dt-script", tabindex: "0" }, shown.script))));
    }
  };

  function showPreview(shown) {
    d.openSheet("Calibration data", rows(shown.facts), shown.sources.length ? [el("h3", {}, "Sources"), rows(shown.sources)] : null,
      shown.samples.length ? [el("h3", {}, `The first ${shown.samples.length} samples, as the model reads them`), shown.samples.map((sample) => [el("p", { class: "dt-soft" }, sample.title), el("pre", { class: "dt-log dt-sample", tabindex: "0" }, sample.text)])] : null);
  }
  function card(...content) { return el("div", { class: "dt-card dt-plan" }, ...content); }
  function rows(list) { return el("table", { class: "dt-table" }, el("tbody", {}, list.map(([name, text]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, text))))); }
  function save(text, name) {
    const address = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    el("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }
  function labelled(label, control, help, wide) {
    control.setAttribute("aria-label", label); // the label element's own text holds the help and every choice
    if (help) control.setAttribute("aria-description", help);
    return el("label", { class: "dt-field" + (wide ? " dt-wide" : "") }, el("span", {}, label), control, help ? el("small", { class: "dt-soft" }, help) : null);
  }
  function select(options, now, write) {
    const node = el("select", {}, options.map(([id, text]) => el("option", { value: id, selected: id === now }, text)));
    node.addEventListener("change", () => write(node.value));
    return node;
  }
  function input(type, now, placeholder, write, mode) {
    const node = el("input", { type, value: now, placeholder, inputmode: mode, autocomplete: "off", spellcheck: "false" });
    node.addEventListener("input", () => write(node.value));
    return node;
  }
  function area(now, lines, write) {
    const node = el("textarea", { rows: lines, spellcheck: "false" }, now);
    node.addEventListener("input", () => write(node.value));
    return node;
  }
})();
