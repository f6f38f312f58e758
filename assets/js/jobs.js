/* The list of jobs on the Quantize tab: what runs and waits, what has ended, their logs and files.
   Value from Python: components/quantize/view_model.py. */
(function () {
  "use strict";
  const d = window.diptych;
  const { el, button, fill, setText } = d;
  const NAMES = { cancel: "Cancel", retry: "Retry", duplicate: "Duplicate", up: "Move up", down: "Move down" };
  const POLL_MS = 1500;

  window.diptych.jobs = function (element, props, trigger, watch) {
    const folds = new Map();
    let value = { jobs: [] }, shown = "";
    element.setAttribute("aria-live", "off");
    let wanted = ""; // which duplicate the form shall be filled with
    d.bind(props, watch, (next) => {
      value = next;
      if (next.wish && next.wish.key === wanted) { wanted = ""; d.fillQuantizeForm(next.wish); }
      draw();
    });
    // While something runs or waits and the tab is in sight, ask for news; what has ended does not change.
    setInterval(() => {
      const busy = (value.jobs || []).some((job) => job.is_running || job.state === "PENDING");
      if (busy && element.offsetParent !== null && document.visibilityState === "visible") trigger("poll", {});
    }, POLL_MS);

    function draw() {
      const key = JSON.stringify(value);
      if (key === shown) return;
      shown = key;
      const focused = document.activeElement?.dataset?.focus;
      const jobs = value.jobs || [], active = jobs.filter((j) => j.is_running || j.state === "PENDING"), ended = jobs.filter((j) => !active.includes(j));
      fill(element, el("h2", {}, "Jobs"),
        active.length ? active.map(card) : el("p", { class: "dt-soft" }, jobs.length ? "Nothing runs or waits." : value.empty || "No job yet. Choose a model and a recipe, and check what it needs; jobs run on when you close the page."),
        ended.length ? [el("h2", { class: "dt-history" }, "History"), ended.map(card)] : null);
      if (focused) element.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    }

    function card(job) {
      const tone = { ok: "dt-ok", bad: "dt-bad" }[job.tone] || "";
      return el("article", { class: "dt-job dt-card", "data-job": job.id, "data-state": job.state, "aria-label": job.title },
        el("div", { class: "dt-title" }, el("b", {}, job.title), el("span", { class: `dt-chip ${tone}` }, job.state), el("span", { class: "dt-head-actions" }, buttons(job))),
        job.message ? el("p", { class: job.state === "FAILED" ? "dt-fault" : "dt-soft", role: job.state === "FAILED" ? "alert" : null }, job.message) : null,
        job.is_running ? el("progress", job.fraction === null ? { "aria-label": "Progress" } : { max: 1, value: job.fraction, "aria-label": "Progress" }) : null,
        job.stops.length ? el("p", { class: "dt-soft" }, "It would have room without: ", job.stops.map((engine) => [act("Stop " + engine, { action: "stop", engine }, `${job.id}.stop.${engine}`), " "])) : null,
        job.phases.length > 1 ? el("p", { class: "dt-phases" }, job.phases.flatMap((phase, i) => [i ? el("span", { "aria-hidden": "true" }, "›") : null, el(i === job.phases.length - 1 ? "b" : "span", {}, phase)])) : null,
        job.losses.length > 1 ? curve(job.losses) : null,
        job.facts.length ? el("p", { class: "dt-facts-line" }, job.facts.join(" · ")) : null,
        job.summary.length ? fold(`${job.id}.summary`, "What came out", job.is_newest, el("table", { class: "dt-table dt-summary" }, el("tbody", {}, job.summary.map(([name, text]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, text)))))) : null,
        job.files.length ? files(job) : null);
    }
    function buttons(job) {
      return [
        job.engine ? button("Compare", () => d.openEngine(job.engine), `${job.id}.compare`, "dt-primary") : null,
        job.actions.includes("publish") ? button("Publish", () => d.openPublish(job), `${job.id}.publish`) : null,
        job.actions.filter((a) => NAMES[a]).map((action) => act(NAMES[action], { action, job: job.id }, `${job.id}.${action}`)),
        value.may_control && job.state !== "PENDING" ? button("Log", () => showLog(job), `${job.id}.log`) : null];
    }
    function act(label, what, focus) {
      const node = button(label, () => {
        node.disabled = true;
        shown = ""; // the answer draws the list anew, whether it changed or not
        if (what.action === "duplicate") wanted = what.key = d.randomKey();
        trigger("act", what);
      }, focus);
      return node;
    }
    function files(job) {
      return fold(`${job.id}.files`, "Files of this job", false, el("p", { class: "dt-files" }, job.files.map((name) =>
        el("a", { href: `jobs/${encodeURIComponent(job.id)}/files/${encodeURIComponent(name)}`, download: "" }, name))));
    }
    /** A part that a person opens or closes; the list is drawn anew often and keeps what was chosen. */
    function fold(key, title, atFirst, content) {
      const node = el("details", { class: "dt-more", open: folds.has(key) ? folds.get(key) : atFirst }, el("summary", { "data-focus": key }, title), content);
      node.addEventListener("toggle", () => folds.set(key, node.open));
      return node;
    }
  };

  /** Loss block by block, as a small line; its figures stand beside it in words. */
  function curve(losses) {
    const svg = (tag, attributes) => { const node = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v); return node; };
    const top = Math.max(...losses), bottom = Math.min(...losses), span = top - bottom || 1;
    const points = losses.map((loss, i) => `${(i / (losses.length - 1)) * 240},${30 - ((loss - bottom) / span) * 28}`).join(" ");
    const drawing = svg("svg", { viewBox: "0 0 240 32", class: "dt-curve", role: "img", "aria-label": `Loss per block, from ${losses[0].toPrecision(3)} to ${losses[losses.length - 1].toPrecision(3)}` });
    drawing.append(svg("polyline", { points, fill: "none" }));
    return drawing;
  }

  function showLog(job) {
    const text = el("pre", { class: "dt-log", tabindex: "0" }, "Reading the log…");
    const find = el("input", { type: "search", class: "dt-find", placeholder: "Search", "aria-label": "Search the log" });
    const count = el("span", { class: "dt-soft", "aria-live": "polite" });
    const sheet = d.openSheet(`Log of ${job.title}`, el("div", { class: "dt-find-line" }, find, count), text);
    let following = true, lines = [];
    text.addEventListener("scroll", () => { following = text.scrollTop + text.clientHeight > text.scrollHeight - 40; });
    find.addEventListener("input", show);
    function show() {
      const wanted = find.value.toLowerCase();
      const hits = wanted ? lines.filter((line) => line.toLowerCase().includes(wanted)) : lines;
      setText(count, wanted ? `${hits.length} of ${lines.length} lines` : "");
      setText(text, hits.join("\n") || (lines.length ? "No line holds that." : "The log is empty."));
      if (following) text.scrollTop = text.scrollHeight;
    }
    async function refresh() {
      if (!sheet.isConnected) return;
      try {
        const answer = await fetch(`jobs/${encodeURIComponent(job.id)}/log`);
        if (!answer.ok) throw new Error(String(answer.status));
        lines = (await answer.json()).lines;
        show();
      } catch { setText(count, "The log could not be read; trying again."); }
      setTimeout(refresh, POLL_MS);
    }
    refresh();
  }
})();
