/* The dialog that publishes what a job made: first a dry run that lists every file, then, on a second click, the upload.
   Values from Python: components/publish/view_model.py. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, fill } = d;

  window.diptych.publish = function (element, props, trigger, watch) {
    let sheet = null;
    d.bind(props, watch, (value) => { if (sheet && value.key === sheet.asked) sheet.show(value); });
    d.openPublish = (job) => { sheet = dialog(job, trigger); };
  };

  function dialog(job, trigger) {
    const shown = el("div", { role: "status" });
    const name = el("input", { type: "text", "aria-label": "Repository", placeholder: "owner/name", autocomplete: "off", spellcheck: "false" });
    const isPrivate = el("input", { type: "checkbox", checked: true }), existing = el("input", { type: "checkbox" });
    const look = el("button", { class: "dt-btn dt-small", type: "button", onclick: () => ask(null) }, "Show what would be uploaded");
    const self = { asked: "", show };
    d.openSheet("Publish at the Hugging Face hub",
      el("p", { class: "dt-soft" }, `${job.title}. Nothing is sent before the second click.`),
      el("label", { class: "dt-field" }, el("span", {}, "Repository"), name),
      el("label", { class: "dt-check-line" }, isPrivate, " Private: only you and your organisation see it"),
      el("label", { class: "dt-check-line" }, existing, " It exists already: add a commit to it"),
      el("div", { class: "dt-form-actions" }, look), shown);
    for (const field of [name, isPrivate, existing]) field.addEventListener("input", () => { self.asked = ""; fill(shown); });
    name.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); ask(null); } });
    name.focus();
    return self;

    function ask(confirm) {
      self.asked = d.randomKey();
      look.disabled = true;
      fill(shown, el("p", { class: "dt-soft dt-pulse" }, confirm ? "Starting" : "Looking at the files and asking the hub"));
      trigger("ask", { key: self.asked, job_id: job.id, repo_id: name.value.trim(), private: isPrivate.checked, existing: existing.checked, ...(confirm ? { confirm } : {}) });
    }
    function show(value) {
      look.disabled = false;
      if (value.refused) { fill(shown, el("p", { class: "dt-fault", role: "alert" }, value.refused.field ? el("b", {}, `${value.refused.field}: `) : null, value.refused.message, " ", value.refused.hint)); return; }
      if (value.job_id) { fill(shown, el("p", { class: "dt-note dt-ok" }, "The upload is a job now; it stands in the list and goes on when you close this page.")); return; }
      if (value.dry_run) fill(shown, ...dryRun(value.dry_run));
    }
    function dryRun(plan) {
      const send = el("button", { class: "dt-btn dt-small dt-primary", type: "button", disabled: !plan.can_start, onclick: () => { send.disabled = true; ask(plan.confirm); } },
        `Upload ${plan.files.length} files (${bytes(plan.size_bytes)}) to ${plan.repo_id}, ${plan.private ? "private" : "public"}`);
      return [
        el("ul", { class: "dt-preflight" }, plan.findings.map((item) => el("li", { class: `dt-${item.verdict}` },
          el("span", { class: "dt-sign", role: "img", "aria-label": item.verdict }, { ok: "✓", warn: "!", fail: "✕" }[item.verdict]), el("span", {}, el("b", {}, item.name), " ", item.sentence)))),
        el("div", { class: "dt-scroll", tabindex: "0", role: "region", "aria-label": "Files" }, el("table", { class: "dt-table" }, el("thead", {}, el("tr", {}, ["File", "Bytes"].map((h) => el("th", { scope: "col" }, h)))),
          el("tbody", {}, plan.files.map((file) => el("tr", {}, el("td", {}, file.name, file.written ? el("small", { class: "dt-soft" }, " written for the hub") : null), el("td", { class: "dt-number" }, file.size_bytes.toLocaleString("en"))))))),
        el("details", { class: "dt-more" }, el("summary", {}, "The card"), el("pre", { class: "dt-log dt-card-text", tabindex: "0" }, plan.card)),
        el("p", { class: "dt-soft" }, "Folders of this machine are taken out of the recipe, the script and the settings."),
        el("div", { class: "dt-form-actions" }, send)];
    }
  }
  function bytes(count) {
    for (const [unit, factor] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) if (count >= factor) return `${(count / factor).toPrecision(3)} ${unit}`;
    return `${count} B`;
  }
})();
